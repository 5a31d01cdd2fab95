"""opencode where recordings cannot show it: how it is started, and what its rarer lines mean."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from adapters import events as ev
from adapters.dialogue import Exit, Turn, Unsupported
from adapters.profile import Launch, Plan
from adapters.runtimes.opencode import tools
from adapters.runtimes.opencode.dialogue import AcpMode, RunMode
from adapters.runtimes.opencode.profile import PROFILE

FAKE_KEY = "a-secret"


def launch(mode: str, plan: Plan) -> Launch:
    start = PROFILE.mode(mode).launch
    assert start is not None
    return start(plan)


def plan(provider: str = "anthropic", *, max_turns: int | None = None, env: dict[str, str] | None = None, **turn: Any) -> Plan:
    told = Turn(prompt="hi", model="m1", **turn)
    return Plan(executable="/bin/oc", home="/h", turn=told, provider=provider, env=env or {}, max_turns=max_turns)


def config(launched: Launch) -> Any:
    return json.loads(launched.env["OPENCODE_CONFIG_CONTENT"])


def running(**turn: Any) -> RunMode:
    ids = count(1)
    dialogue = RunMode(lambda: f"call_{next(ids)}")
    dialogue.start(Turn("hi", **turn))
    return dialogue


def feed(dialogue: RunMode | AcpMode, message: dict[str, Any]) -> list[ev.Event]:
    return dialogue.feed(json.dumps(message).encode()).events


def step_finish(reason: str) -> dict[str, Any]:
    return {"type": "step_finish", "part": {"reason": reason, "tokens": {"input": 2, "output": 1}, "cost": 0}}


def test_acp_is_the_default_and_keeps_stdin_open() -> None:
    started = launch("acp", plan())
    assert PROFILE.mode().name == "acp"
    assert (started.argv, started.keep_stdin) == (("/bin/oc", "acp"), True)


def test_run_takes_the_prompt_on_stdin_and_resumes_by_id() -> None:
    started = launch("run", plan(native_session="ses_1"))
    flags = ("--format", "json", "--auto", "--thinking", "--title", "task", "--model", "anthropic/m1", "--session", "ses_1")
    assert (started.argv, started.keep_stdin) == (("/bin/oc", "run", *flags), False)
    assert RunMode(lambda: "x").start(Turn("-dash first")).outgoing == [b"-dash first"]


def test_serve_can_only_be_replayed() -> None:
    assert PROFILE.mode("serve").launch is None


def test_a_turn_phones_nobody_but_the_chosen_provider() -> None:
    started = launch("acp", plan())
    told = config(started)
    assert {name for name, value in started.env.items() if value == "1"} == {
        "OPENCODE_DISABLE_MODELS_FETCH",
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
    }
    assert (told["model"], told["small_model"], told["enabled_providers"]) == ("anthropic/m1", "anthropic/m1", ["anthropic"])
    assert (told["share"], told["autoupdate"], told["agent"]) == ("disabled", False, {"title": {"disable": True}})
    assert "@opencode-ai/plugin" in started.files[".config/opencode/package-lock.json"]


def test_everything_is_allowed_because_the_sandbox_decides() -> None:
    assert set(config(launch("run", plan()))["permission"].values()) == {"allow"}


@pytest.mark.parametrize(
    ("provider", "url", "expected"),
    [
        ("anthropic", {"ANTHROPIC_BASE_URL": "http://h:1"}, {"apiKey": "{env:ANTHROPIC_API_KEY}", "baseURL": "http://h:1/v1"}),
        (
            "anthropic",
            {"ANTHROPIC_BASE_URL": "http://h:1/v1/"},
            {"apiKey": "{env:ANTHROPIC_API_KEY}", "baseURL": "http://h:1/v1"},
        ),
        ("openai", {"OPENAI_BASE_URL": "http://h:1/v1"}, {"apiKey": "{env:OPENAI_API_KEY}", "baseURL": "http://h:1/v1"}),
        (
            "google",
            {"GOOGLE_GEMINI_BASE_URL": "http://h:1"},
            {"apiKey": "{env:GEMINI_API_KEY}", "baseURL": "http://h:1/v1beta"},
        ),
        ("google", {}, {"apiKey": "{env:GEMINI_API_KEY}"}),
    ],
)
def test_a_provider_gets_its_base_url_and_the_name_of_its_key(
    provider: str, url: dict[str, str], expected: dict[str, str]
) -> None:
    told = config(launch("acp", plan(provider, env=url)))
    assert told["provider"] == {provider: {"options": expected, "models": {"m1": {}}}}


def test_a_custom_provider_speaks_the_openai_protocol() -> None:
    told = config(launch("acp", plan("openai-compatible", env={"OPENAI_BASE_URL": "http://h:1/v1"})))
    name = "compatible-with-openai"  # opencode tries a 404 again for a minute if this begins with "openai"
    assert told["provider"] == {
        name: {
            "options": {"apiKey": "{env:OPENAI_API_KEY}", "baseURL": "http://h:1/v1"},
            "models": {"m1": {}},
            "npm": "@ai-sdk/openai-compatible",
            "name": name,
        }
    }
    assert (told["model"], told["enabled_providers"]) == (f"{name}/m1", [name])


@pytest.mark.parametrize("mode", ["acp", "run"])
def test_a_key_stands_in_its_own_variable_only(mode: str) -> None:
    started = launch(mode, plan(env={"ANTHROPIC_API_KEY": FAKE_KEY}))
    places = [
        *started.argv,
        *started.files.values(),
        *(value for name, value in started.env.items() if name != "ANTHROPIC_API_KEY"),
    ]
    assert started.env["ANTHROPIC_API_KEY"] == FAKE_KEY
    assert not [place for place in places if FAKE_KEY in place]


def test_the_system_prompt_is_a_file_and_vanishes_with_it() -> None:
    with_one = launch("acp", plan(system_prompt="Be kind."))
    without = launch("acp", plan())
    assert (with_one.files[".config/opencode/AGENTS.md"], without.files[".config/opencode/AGENTS.md"]) == ("Be kind.", "")


def test_a_turn_limit_is_a_step_limit() -> None:
    assert config(launch("run", plan(max_turns=3)))["agent"]["build"] == {"steps": 3}


def test_run_gets_its_mcp_servers_by_configuration() -> None:
    servers = ({"name": "a", "command": "serve", "args": ["-v"], "env": {"K": "1"}}, {"name": "b", "url": "http://h/mcp"})
    assert config(launch("run", plan(mcp_servers=servers)))["mcp"] == {
        "a": {"type": "local", "command": ["serve", "-v"], "environment": {"K": "1"}, "enabled": True},
        "b": {"type": "remote", "url": "http://h/mcp", "headers": {}, "enabled": True},
    }
    assert "mcp" not in config(launch("acp", plan(mcp_servers=servers)))


def test_no_model_leaves_the_choice_to_the_runtime() -> None:
    started = launch("run", Plan(executable="oc", home="/h", turn=Turn("hi")))
    assert "--model" not in started.argv
    assert not {"model", "provider", "enabled_providers"} & set(config(started))


@pytest.mark.parametrize(
    ("reason", "done"),
    [
        ("stop", ev.done("completed")),
        ("unknown", ev.done("completed")),
        ("length", ev.done("failed", "output_limit")),
        ("content-filter", ev.done("failed", "content_refused")),
        ("tool-calls", ev.done("failed", "permission_denied")),
    ],
)
def test_the_last_step_decides_how_a_run_that_exits_with_0_ended(reason: str, done: ev.Event) -> None:
    dialogue = running()
    feed(dialogue, step_finish("tool-calls"))
    feed(dialogue, step_finish(reason))
    events = dialogue.finish(Exit(code=0))
    assert (events[0], events[-1]) == (ev.usage(input_tokens=4, output_tokens=2, cost_usd=0.0), done)


def test_an_error_line_is_not_final_when_the_run_recovers() -> None:
    dialogue = running()
    error = {"name": "ContextOverflowError", "data": {"message": "too long"}}
    assert [event.type for event in feed(dialogue, {"type": "error", "error": error})] == ["notice"]
    feed(dialogue, step_finish("stop"))
    assert dialogue.finish(Exit(code=0))[-1] == ev.done("completed")


def test_the_last_error_line_wins() -> None:
    dialogue = running()
    for name, status in (("APIError", 500), ("APIError", 401)):
        feed(dialogue, {"type": "error", "error": {"name": name, "data": {"message": "?", "statusCode": status}}})
    assert dialogue.finish(Exit(code=1))[-1] == ev.done("failed", "auth_error")


@pytest.mark.parametrize(
    ("error", "begun", "category"),
    [
        ({"name": "ProviderAuthError", "data": {"message": "?"}}, True, "auth_error"),
        ({"name": "MessageOutputLengthError", "data": {}}, True, "output_limit"),
        ({"name": "APIError", "data": {"message": "?"}}, True, "upstream_api_error"),
        ({"name": "APIError", "data": {"message": "?", "statusCode": 413}}, True, "context_overflow"),
        ({"name": "UnknownError", "data": {"message": "Unexpected server error. Check"}}, False, "model_not_found"),
        ({"name": "UnknownError", "data": {"message": "Unexpected server error. Check"}}, True, "runtime_crash"),
        ({"name": "UnknownError"}, True, "runtime_crash"),
    ],
)
def test_an_error_has_a_category(error: dict[str, Any], begun: bool, category: str) -> None:
    assert tools.failure(error, begun=begun).category == category


def test_text_of_the_runtime_itself_is_not_the_agents() -> None:
    events = feed(running(), {"type": "text", "part": {"text": "Continue.", "synthetic": True}})
    assert events == [ev.notice("synthetic", "Continue.")]


def test_an_exit_without_any_step_is_a_crash() -> None:
    dialogue = running()
    feed(dialogue, {"type": "step_start", "part": {}})
    assert dialogue.finish(Exit(code=0))[-1] == ev.done("failed", "runtime_crash")


def test_a_stopped_run_is_canceled_and_takes_no_message() -> None:
    dialogue = running()
    with pytest.raises(Unsupported):
        dialogue.steer("and this")
    with pytest.raises(Unsupported):
        dialogue.interrupt()
    assert dialogue.finish(Exit(signal=15, cause="canceled")) == [ev.done("canceled")]


def tool_use(tool: str, **state: Any) -> dict[str, Any]:
    return {"type": "tool_use", "part": {"callID": "c", "tool": tool, "state": {"status": "completed", "input": {}, **state}}}


@pytest.mark.parametrize(
    ("tool", "input", "expected"),
    [
        ("bash", {"command": "ls", "timeout": 5, "description": "List"}, ("shell", {"command": "ls", "timeout_ms": 5})),
        ("read", {"filePath": "/workspace/a", "offset": 2}, ("read_file", {"path": "a", "offset": 2})),
        ("grep", {"pattern": "x", "path": "/workspace", "include": "*.py"}, ("search_files", {"pattern": "x", "path": "."})),
        ("list", {"path": "/workspace/src"}, ("list_files", {"path": "src"})),
        ("webfetch", {"url": "http://h", "format": "text"}, ("web_fetch", {"url": "http://h"})),
        ("websearch", {"query": "q", "numResults": 3}, ("web_search", {"query": "q"})),
        ("todoread", {}, ("plan", {"items": []})),
        ("skill", {"name": "x"}, ("other", {})),
        ("tiny_add", {"a": 1}, ("mcp:tiny/add", {"a": 1})),
        (
            "apply_patch",
            {"patchText": "*** Begin Patch\n*** Update File: a.txt\n-x\n+y\n*** End Patch"},
            ("edit_file", {"path": "a.txt", "patch": "*** Begin Patch\n*** Update File: a.txt\n-x\n+y\n*** End Patch"}),
        ),
    ],
)
def test_a_tool_has_a_canonical_name_and_canonical_keys(
    tool: str, input: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    start = feed(running(mcp_servers=({"name": "tiny"},)), tool_use(tool, input=input))[0]
    assert (start.body["tool"], start.body["input"]) == expected


def test_a_stopped_command_is_an_error_without_the_runtimes_remarks() -> None:
    remark = "start\n\n<shell_metadata>\nbash tool terminated command after exceeding timeout\n</shell_metadata>"
    events = feed(running(), tool_use("bash", output=remark, metadata={"output": "start\n", "exit": None}))
    assert ev.tool_result("call_1", "start", is_error=True) in events
    assert ev.tool_detail("call_1", output=remark) in events


def test_the_runtimes_words_for_no_output_are_not_the_commands() -> None:
    silent = feed(running(), tool_use("bash", output="(no output)", metadata={"output": "(no output)", "exit": 0}))
    said = feed(running(), tool_use("bash", output="(no output)\n", metadata={"output": "(no output)\n", "exit": 0}))
    assert ev.tool_result("call_1", "", exit_code=0) in silent
    assert ev.tool_result("call_1", "(no output)", exit_code=0) in said


@pytest.mark.parametrize(
    ("prompt", "sent"), [("/help", "\u200b/help"), (" \ufeff/help", "\u200b \ufeff/help"), ("a /b", "a /b")]
)
def test_in_acp_a_prompt_is_never_a_command_of_the_runtime(prompt: str, sent: str) -> None:
    assert AcpMode(lambda: "call_1").prompt_of(prompt) == [{"type": "text", "text": sent}]


def test_in_acp_a_tool_there_is_not_is_an_error() -> None:
    ids = count(1)
    dialogue = AcpMode(lambda: f"call_{next(ids)}")
    dialogue.start(Turn("hi"))
    for id, result in ((1, {}), (2, {"sessionId": "s"})):
        feed(dialogue, {"id": id, "result": result})
    told: list[ev.Event] = []
    for kind, title, status in (
        ("tool_call", "no_such", "pending"),
        ("tool_call_update", "invalid", "in_progress"),
        ("tool_call_update", "Invalid Tool", "completed"),
    ):
        call = {
            "sessionUpdate": kind,
            "toolCallId": "t",
            "title": title,
            "status": status,
            "rawOutput": {"output": "unavailable"},
        }
        told += feed(dialogue, {"method": "session/update", "params": {"sessionId": "s", "update": call}})
    assert [event for event in told if event.level != "internal"] == [
        ev.tool_start("call_1", "other", {}, "Other"),
        ev.tool_result("call_1", "The tool reported an error.", is_error=True),
    ]
