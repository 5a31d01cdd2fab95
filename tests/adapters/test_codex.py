"""What recordings cannot show of the Codex CLI: how it is started, and what is said to it."""

from __future__ import annotations

import json
import tomllib
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from adapters import events as ev
from adapters.dialogue import Dialogue, Exit, Step, Turn, Unsupported
from adapters.events import Event
from adapters.profile import Launch, Plan
from adapters.runtimes.codex import failures, tools
from adapters.runtimes.codex.profile import PROFILE
from adapters.runtimes.codex.thread import Told

GOLDEN = Path(__file__).parents[1] / "golden" / "codex"
SETTINGS = (
    *("-c", 'model_provider="gateway"'),
    *(
        "-c",
        'model_providers.gateway={"name" = "gateway", "base_url" = "http://127.0.0.1:1/v1", "env_key" = "OPENAI_API_KEY", '
        '"wire_api" = "responses", "request_max_retries" = 2, "stream_max_retries" = 2}',
    ),
    *("-c", "features.unbounded_connection_retries=false"),
    *("-c", "analytics.enabled=false"),
    *("-c", 'shell_environment_policy.exclude=["OPENAI_*", "CODEX_*"]'),
)
ENV = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}


def dialogue(mode: str | None = None) -> Dialogue:
    ids = count(1)
    return PROFILE.mode(mode).dialogue(lambda: f"call_{next(ids)}")


def launch(mode: str, turn: Turn, env: dict[str, str] = ENV) -> Launch:
    start = PROFILE.mode(mode).launch
    assert start is not None
    return start(Plan("/opt/codex", "/home/agent", turn, provider="openai", env=env))


def said(step: Step | list[bytes]) -> list[dict[str, Any]]:
    lines = step.outgoing if isinstance(step, Step) else step
    return [json.loads(line) for line in lines]


def feed(to: Dialogue, *messages: dict[str, Any]) -> list[Event]:
    return [event for message in messages for event in to.feed(json.dumps(message).encode()).events]


def note(method: str, **params: Any) -> dict[str, Any]:
    return {"method": method, "params": {"threadId": "t1", "turnId": "u1", **params}}


def item(stage: str, kind: str, id: str = "i1", **more: Any) -> dict[str, Any]:
    return note(f"item/{stage}", item={"type": kind, "id": id, **more})


def in_turn(turn: Turn | None = None) -> Dialogue:
    """A dialogue whose turn u1 of thread t1 runs."""
    to = dialogue()
    to.start(turn or Turn("Hello"))
    feed(to, {"id": "r1", "result": {}}, {"id": "r2", "result": {"thread": {"id": "t1"}}})
    feed(to, {"id": "r3", "result": {"turn": {"id": "u1"}}})
    return to


def ended(status: str, turn: str = "u1", **more: Any) -> dict[str, Any]:
    return {"method": "turn/completed", "params": {"threadId": "t1", "turn": {"id": turn, "status": status, **more}}}


def totals(input: int, output: int) -> dict[str, Any]:
    total = {"inputTokens": input, "outputTokens": output, "cachedInputTokens": 0, "reasoningOutputTokens": 0}
    return note("thread/tokenUsage/updated", tokenUsage={"total": total})


# -- how it is started


def test_the_two_way_mode_is_started_with_its_own_provider_and_an_open_stdin() -> None:
    assert launch("app-server", Turn("Hello", model="m", system_prompt="Be brief.")) == Launch(
        argv=("/opt/codex", "app-server", *SETTINGS),
        env={**ENV, "CODEX_HOME": "/home/agent/.codex"},
        files={".codex/config.toml": "mcp_servers = {}\n"},
        keep_stdin=True,
    )


def test_the_one_shot_mode_reads_the_prompt_from_stdin_and_the_instructions_from_a_file() -> None:
    flags = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *SETTINGS, "-m", "m")
    assert launch("exec", Turn("--help", model="m", system_prompt="Be brief.")) == Launch(
        argv=("/opt/codex", "exec", *flags, "-"),
        env={**ENV, "CODEX_HOME": "/home/agent/.codex"},
        files={".codex/config.toml": 'developer_instructions = "Be brief."\nmcp_servers = {}\n'},
    )
    assert launch("exec", Turn("Hello", model="m", native_session="t1")).argv == (
        "/opt/codex",
        "exec",
        "resume",
        *flags,
        "t1",
        "-",
    )
    assert dialogue("exec").start(Turn("--help")).outgoing == [b"--help"]


def test_without_a_base_url_the_vendor_is_called() -> None:
    settings = launch("app-server", Turn("Hello"), {"OPENAI_API_KEY": "k"}).argv
    provider = next(word for word in settings if word.startswith("model_providers."))
    assert tomllib.loads(provider)["model_providers"]["gateway"]["base_url"] == "https://api.openai.com/v1"


def test_instructions_and_mcp_servers_survive_in_the_configuration_file() -> None:
    prompt = 'Say "hi"\\\n\tü €😀 \x00\x7f\u2028'
    servers = (
        {"name": "a", "command": "npx", "args": ["-y", 1], "env": {"KEY": "s'e\"cret"}},
        {"name": "b", "command": ["uvx", "b"], "args": ["c"]},
        {"name": "c", "url": "https://example.org/mcp", "headers": {"Authorization": "Bearer x"}},
    )
    started = launch("exec", Turn("Hello", system_prompt=prompt, mcp_servers=servers))
    assert tomllib.loads(started.files[".codex/config.toml"]) == {
        "developer_instructions": prompt,
        "mcp_servers": {
            "a": {"command": "npx", "args": ["-y", "1"], "env": {"KEY": "s'e\"cret"}},
            "b": {"command": "uvx", "args": ["b", "c"], "env": {}},
            "c": {"url": "https://example.org/mcp", "http_headers": {"Authorization": "Bearer x"}},
        },
    }
    assert "cret" not in " ".join(started.argv)


def test_only_the_key_and_the_address_of_the_provider_reach_the_child() -> None:
    assert PROFILE.all_env_names() == ("OPENAI_API_KEY", "OPENAI_BASE_URL")


# -- what is said to it


def test_a_turn_starts_after_the_handshake() -> None:
    to = dialogue()
    client = {"name": "switchboard", "title": "Switchboard", "version": "1"}
    begun = said(to.start(Turn("Hello", "/w", model="m", system_prompt="Be brief.")))
    assert begun == [{"id": "r1", "method": "initialize", "params": {"clientInfo": client}}]
    opening = {"cwd": "/w", "approvalPolicy": "never", "sandbox": "danger-full-access", "model": "m"}
    assert said(to.feed(b'{"id":"r1","result":{}}')) == [
        {"method": "initialized"},
        {"id": "r2", "method": "thread/start", "params": {**opening, "developerInstructions": "Be brief."}},
    ]
    opened = to.feed(b'{"id":"r2","result":{"thread":{"id":"t1"}}}')
    assert opened.events == [ev.native_session("t1")]
    prompt = {"threadId": "t1", "input": [{"type": "text", "text": "Hello"}]}
    assert said(opened) == [{"id": "r3", "method": "turn/start", "params": prompt}]


def test_a_known_conversation_is_resumed_and_not_announced_again() -> None:
    to = dialogue()
    to.start(Turn("Hello", "/w", native_session="t1"))
    resume = said(to.feed(b'{"id":"r1","result":{}}'))[1]
    place = {"cwd": "/w", "approvalPolicy": "never", "sandbox": "danger-full-access"}
    assert resume == {"id": "r2", "method": "thread/resume", "params": {**place, "threadId": "t1", "excludeTurns": True}}
    opened = to.feed(b'{"id":"r2","result":{"thread":{"id":"t1"}}}')
    assert (opened.events, said(opened)[0]["method"]) == ([], "turn/start")


def test_a_conversation_that_is_gone_fails_the_turn() -> None:
    to = dialogue()
    to.start(Turn("Hello", native_session="t1"))
    feed(to, {"id": "r1", "result": {}})
    assert feed(to, {"id": "r2", "error": {"code": -32600, "message": "no rollout found for thread id t1"}}) == [
        ev.error_detail("startup_crash", "thread/resume: no rollout found for thread id t1"),
        ev.done("failed", "startup_crash"),
    ]


def test_a_second_turn_needs_no_handshake() -> None:
    to = in_turn()
    feed(to, ended("completed"))
    second = said(to.start(Turn("More", native_session="t1")))
    assert second == [
        {"id": "r4", "method": "turn/start", "params": {"threadId": "t1", "input": [{"type": "text", "text": "More"}]}}
    ]


def test_the_first_turn_waits_until_every_mcp_server_is_up_or_has_failed() -> None:
    to = dialogue()
    to.start(Turn("Hello", mcp_servers=({"name": "good"}, {"name": "bad"})))
    feed(to, {"id": "r1", "result": {}})
    status = "mcpServer/startupStatus/updated"
    assert said(to.feed(b'{"id":"r2","result":{"thread":{"id":"t1"}}}')) == []
    for name, state in (("good", "starting"), ("good", "ready"), ("bad", "starting")):
        assert said(to.feed(json.dumps(note(status, name=name, status=state)).encode())) == []
    last = to.feed(json.dumps(note(status, name="bad", status="failed", error="boom")).encode())
    assert last.events == [ev.notice("mcp_failed", "bad: boom")]
    assert [line["method"] for line in said(last)] == ["turn/start"]


def test_a_message_joins_the_running_turn_only_while_it_runs() -> None:
    to = dialogue()
    to.start(Turn("Hello"))
    with pytest.raises(Unsupported):
        to.steer("too early")
    to = in_turn()
    params = {"threadId": "t1", "expectedTurnId": "u1", "input": [{"type": "text", "text": "Shorter."}]}
    assert said(to.steer("Shorter.")) == [{"id": "r4", "method": "turn/steer", "params": params}]
    assert feed(to, {"id": "r4", "result": {"turnId": "u1"}}) == []
    feed(to, ended("completed"))
    with pytest.raises(Unsupported):
        to.steer("too late")


def test_a_message_is_taken_when_it_has_become_an_item_of_the_turn() -> None:
    """[STEER-1]"""
    to = in_turn()
    (request,) = said(to.steer("Shorter.", "trn_2"))
    assert request["params"]["clientUserMessageId"] == "trn_2"
    own, other = (item("started", "userMessage", clientId=id, content=[]) for id in ("trn_2", None))
    assert feed(to, {"id": "r4", "result": {"turnId": "u1"}}, other) == []
    assert feed(to, own, own) == [ev.steered("trn_2")]


def test_after_one_message_was_refused_no_other_is_given() -> None:
    """[STEER-2]"""
    to = in_turn()
    to.steer("Shorter.", "trn_2")
    assert feed(to, {"id": "r4", "error": {"code": -32600, "message": "too long"}}) == [ev.notice("steer_refused", "Shorter.")]
    with pytest.raises(Unsupported):
        to.steer("And in German.", "trn_3")


def test_a_message_that_came_too_late_is_given_back() -> None:
    to = in_turn()
    to.steer("Shorter.")
    feed(to, ended("completed"))
    refused = {"id": "r4", "error": {"code": -32600, "message": "no active turn to steer"}}
    assert feed(to, refused) == [ev.notice("steer_refused", "Shorter.")]


def test_an_interrupt_ends_the_turn_as_canceled_and_closes_its_open_tool() -> None:
    to = in_turn()
    feed(to, item("started", "commandExecution", command="/bin/bash -lc 'sleep 9'"))
    assert said(to.interrupt()) == [{"id": "r4", "method": "turn/interrupt", "params": {"threadId": "t1", "turnId": "u1"}}]
    assert feed(to, {"id": "r4", "result": {}}, ended("interrupted")) == [
        ev.tool_result("call_1", "", is_error=True),
        ev.done("canceled"),
    ]
    assert to.finish(Exit(0)) == []


def test_the_one_shot_mode_takes_no_message_and_no_interrupt() -> None:
    to = dialogue("exec")
    to.start(Turn("Hello"))
    with pytest.raises(Unsupported):
        to.steer("Shorter.")
    with pytest.raises(Unsupported):
        to.interrupt()


@pytest.mark.parametrize(
    ("method", "params", "result"),
    [
        ("item/commandExecution/requestApproval", {}, {"decision": "accept"}),
        ("item/fileChange/requestApproval", {}, {"decision": "accept"}),
        ("execCommandApproval", {}, {"decision": "approved"}),
        ("applyPatchApproval", {}, {"decision": "approved"}),
        ("item/permissions/requestApproval", {"permissions": {"network": {}}}, {"permissions": {"network": {}}}),
        ("item/tool/requestUserInput", {"questions": []}, {"answers": {}}),
        (
            "mcpServer/elicitation/request",
            {"mode": "form", "requestedSchema": {"type": "object", "properties": {}}},
            {"action": "accept", "content": {}},
        ),
        ("mcpServer/elicitation/request", {"mode": "url", "url": "https://x"}, {"action": "decline", "content": None}),
    ],
)
def test_what_the_runtime_asks_is_granted(method: str, params: dict[str, Any], result: dict[str, Any]) -> None:
    asked = in_turn().feed(json.dumps({"id": 0, "method": method, "params": params}).encode())
    assert (asked.events, said(asked)) == ([], [{"id": 0, "result": result}])


def test_a_request_nobody_knows_is_answered_with_an_error() -> None:
    asked = in_turn().feed(b'{"id":"x","method":"attestation/generate","params":{}}')
    assert said(asked) == [{"id": "x", "error": {"code": -32601, "message": "Method not found"}}]


# -- what it says


def test_a_turn_counts_what_the_thread_used_more_than_before_in_another_process() -> None:
    first, second = dialogue("exec"), dialogue("exec")
    first.start(Turn("My favourite number is 42."))
    feed_recording(first, "resume_turn1")
    second.start(Turn("Which?", native_session="01a1fcb7-5ee0-74c3-aa67-18ba07c0f358", memory=first.memory))
    used = next(event for event in feed_recording(second, "resume_turn2") if event.type == "usage")
    assert used == ev.usage(input_tokens=5400, output_tokens=42, cached_tokens=5120, reasoning_tokens=0)


def feed_recording(to: Dialogue, case: str) -> list[Event]:
    lines = (GOLDEN / case / "raw.jsonl").read_bytes().splitlines()
    return [event for line in lines for event in to.feed(line).events]


def test_a_turn_of_the_same_process_is_counted_alone() -> None:
    to = in_turn()
    assert feed(to, totals(100, 10), ended("completed"))[0] == ev.usage(input_tokens=100, output_tokens=10, reasoning_tokens=0)
    to.start(Turn("More", memory=to.memory))
    feed(to, {"id": "r4", "result": {"turn": {"id": "u2"}}})
    more = totals(150, 25)
    more["params"]["turnId"] = "u2"
    assert feed(to, more, ended("completed", "u2"))[0] == ev.usage(input_tokens=50, output_tokens=15, reasoning_tokens=0)


def test_totals_of_another_thread_are_not_subtracted() -> None:
    to = in_turn(Turn("Hello", memory={"thread": "t0", "totals": {"input_tokens": 90, "output_tokens": 9}}))
    assert feed(to, totals(100, 10), ended("completed"))[0] == ev.usage(input_tokens=100, output_tokens=10, reasoning_tokens=0)


def test_a_stopped_turn_is_counted_too() -> None:
    to = in_turn()
    feed(to, totals(100, 10))
    assert to.finish(Exit(signal=9, cause="canceled")) == [
        ev.usage(input_tokens=100, output_tokens=10, reasoning_tokens=0),
        ev.done("canceled"),
    ]


def test_what_other_threads_and_earlier_turns_say_is_passed_over() -> None:
    to = in_turn()
    other = note("item/agentMessage/delta", threadId="t2", itemId="m", delta="sub-agent")
    earlier = note("item/agentMessage/delta", turnId="u0", itemId="m", delta="late")
    assert feed(to, other, earlier, ended("completed", "u0")) == []
    assert to.running


def test_a_notification_nobody_knows_is_kept_for_the_owner() -> None:
    to = in_turn()
    line = json.dumps(note("item/novelty"))
    assert to.feed(line.encode()).events == [ev.raw(line, "unknown notification")]
    odd = json.dumps(item("started", "novelty"))
    assert to.feed(odd.encode()).events == [ev.raw(odd, "unknown item")]


def test_a_message_is_told_once_whether_in_pieces_or_whole() -> None:
    to = in_turn()
    pieces = [note("item/agentMessage/delta", itemId="m1", delta=text) for text in ("Hel", "lo")]
    told = feed(
        to, *pieces, item("completed", "agentMessage", "m1", text="Hello!"), item("completed", "agentMessage", "m2", text="Bye")
    )
    assert told == [ev.chunk("Hel"), ev.chunk("lo"), ev.chunk("!"), ev.chunk("Bye")]


def test_a_repeated_request_does_not_repeat_its_text() -> None:
    to = in_turn()
    broken = note("error", willRetry=True, error={"message": "Reconnecting... 1/2", "additionalDetails": "cut"})

    def delta(id: str, text: str) -> dict[str, Any]:
        return note("item/agentMessage/delta", itemId=id, delta=text)

    told = feed(to, delta("m1", "One, tw"), broken, delta("m2", "One"), delta("m2", ", two"), delta("m2", ", three"))
    assert told == [
        ev.chunk("One, tw"),
        ev.notice("retry", "Reconnecting... 1/2\ncut"),
        ev.chunk("o"),
        ev.chunk(", three"),
    ]


def test_a_repeated_request_that_says_something_else_is_told_whole() -> None:
    told = Told()
    told.hear("One, tw")
    told.again()
    assert [told.hear(text) for text in ("One", ", but", " no")] == ["", "One, but", " no"]


def test_a_plan_is_told_when_it_changes() -> None:
    to = in_turn()
    plan = note("turn/plan/updated", plan=[{"step": "a", "status": "completed"}, {"step": "b", "status": "inProgress"}])
    items = [{"text": "a", "status": "completed"}, {"text": "b", "status": "in_progress"}]
    start = ev.tool_start("call_1", "plan", {"items": items}, "Update the plan")
    assert feed(to, plan, plan) == [start, ev.tool_result("call_1", "")]


def test_a_web_search_is_told_once_its_query_is_known() -> None:
    to = in_turn()
    search: dict[str, Any] = {"query": "cats", "action": {"type": "search", "query": "cats"}}
    assert feed(to, item("started", "webSearch", query="", action=None)) == []
    assert feed(to, item("completed", "webSearch", **search)) == [
        ev.tool_start("call_1", "web_search", {"query": "cats"}, "Search the web for cats"),
        ev.tool_result("call_1", ""),
    ]
    page: dict[str, Any] = {"query": "", "action": {"type": "openPage", "url": "https://example.org"}}
    assert feed(to, item("completed", "webSearch", "i2", **page))[0] == ev.tool_start(
        "call_2", "web_fetch", {"url": "https://example.org"}, "Fetch https://example.org"
    )


def test_the_runtimes_own_words_on_a_failed_mcp_call_are_for_the_owner() -> None:
    to = in_turn()
    call: dict[str, Any] = {
        "server": "s",
        "tool": "x",
        "arguments": None,
        "status": "failed",
        "result": None,
        "error": {"message": "tool call failed"},
    }
    assert feed(to, item("completed", "mcpToolCall", **call)) == [
        ev.tool_start("call_1", "mcp:s/x", {}, "Use s/x"),
        ev.tool_result("call_1", "The tool reported an error.", is_error=True),
        ev.tool_detail("call_1", output="tool call failed"),
    ]


def test_a_sub_agent_is_a_call_with_its_prompt() -> None:
    call: dict[str, Any] = {
        "tool": "spawnAgent",
        "prompt": "Look.",
        "status": "completed",
        "agentsStates": {"t2": {"message": "Found."}},
    }
    assert feed(in_turn(), item("completed", "collabAgentToolCall", **call)) == [
        ev.tool_start("call_1", "subagent", {"prompt": "Look."}, "Delegate: Look."),
        ev.tool_detail("call_1", vendor_tool="spawnAgent"),
        ev.tool_result("call_1", "Found."),
    ]


def test_a_change_of_one_file_is_told_by_its_edits() -> None:
    diff = "@@ -1,2 +1,2 @@\n one\n-two\n+2\n@@ -9 +9,2 @@\n nine\n+ten\n\\ No newline at end of file\n"
    changes = [{"path": "/workspace/a.txt", "kind": {"type": "update", "move_path": None}, "diff": diff}]
    edits = [{"old": "one\ntwo\n", "new": "one\n2\n"}, {"old": "nine\n", "new": "nine\nten\n"}]
    started = feed(in_turn(), item("started", "fileChange", changes=changes, status="inProgress"))
    assert started == [ev.tool_start("call_1", "edit_file", {"path": "a.txt", "edits": edits}, "Edit a.txt")]


def test_a_change_of_several_files_is_one_call_with_one_patch() -> None:
    changes = [
        {
            "path": "/workspace/a.txt",
            "kind": {"type": "update", "move_path": "/workspace/b.txt"},
            "diff": "@@ -1 +1 @@\n-x\n+y\n",
        },
        {"path": "/workspace/c.txt", "kind": {"type": "add"}, "diff": "one\ntwo"},
        {"path": "/workspace/d.txt", "kind": {"type": "delete"}, "diff": "gone\n"},
    ]
    patch = (
        "--- a.txt\n+++ b.txt\n@@ -1 +1 @@\n-x\n+y\n"
        "--- /dev/null\n+++ c.txt\n+one\n+two\n"
        "--- d.txt\n+++ /dev/null\n-gone\n"
    )  # fmt: skip
    started = feed(in_turn(), item("started", "fileChange", changes=changes, status="inProgress"))
    assert started == [ev.tool_start("call_1", "edit_file", {"path": "a.txt", "patch": patch}, "Edit a.txt")]


@pytest.mark.parametrize(
    ("command", "inner"),
    [
        ("/bin/bash -lc 'echo hi'", "echo hi"),
        ("bash -c \"echo 'a b'\"", "echo 'a b'"),
        ("/usr/bin/zsh -lc ls", "ls"),
        ("/bin/bash -lc 'a' 'b'", "/bin/bash -lc 'a' 'b'"),
        ("python3 -c 'print()'", "python3 -c 'print()'"),
        ("echo it's", "echo it's"),
    ],
)
def test_a_command_is_told_without_the_shell_around_it(command: str, inner: str) -> None:
    assert tools.unwrap(command) == inner


# -- why it failed


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Missing environment variable: `X`.", "auth_error"),
        ("unexpected status 401 Unauthorized: no", "auth_error"),
        ("unexpected status 403 Forbidden: no", "permission_denied"),
        ("You've hit your usage limit.", "quota_exceeded"),
        ("Codex ran out of room in the model's context window. Start a new thread", "context_overflow"),
        ("stream disconnected before completion: Incomplete response returned, reason: max_output_tokens", "output_limit"),
        ("stream disconnected before completion: Incomplete response returned, reason: content_filter", "content_refused"),
        ("stream disconnected before completion: Rate limit reached", "rate_limit"),
        ("unexpected status 404 Not Found: no", "model_not_found"),
        ("unexpected status 418 I'm a teapot: no", "invalid_request"),
        ("unexpected status 503 Service Unavailable: no", "upstream_api_error"),
        ("Selected model is at capacity. Please try a different model.", "upstream_api_error"),
        ("something new", None),
    ],
)
def test_an_error_text_tells_its_category(text: str, category: str | None) -> None:
    assert failures.category_of_text(text) == category


@pytest.mark.parametrize(
    ("info", "message", "category"),
    [
        ("usageLimitExceeded", "429", "quota_exceeded"),
        ("badRequest", "context_length_exceeded", "context_overflow"),
        ("badRequest", "no", "invalid_request"),
        ("sessionBudgetExceeded", "no", "budget_exceeded"),
        ("cyberPolicy", "no", "content_refused"),
        ({"responseTooManyFailedAttempts": {"httpStatusCode": 429}}, "no", "rate_limit"),
        ({"responseStreamDisconnected": {"httpStatusCode": None}}, "no", "upstream_api_error"),
        ("other", "no", "runtime_crash"),
        (None, "unexpected status 401 Unauthorized", "auth_error"),
    ],
)
def test_an_error_code_tells_its_category(info: Any, message: str, category: ev.ErrorCategory) -> None:
    error = {"message": message, "codexErrorInfo": info}
    assert feed(in_turn(), ended("failed", error=error)) == [ev.error_detail(category, message), ev.done("failed", category)]


@pytest.mark.parametrize(
    ("stderr", "text", "category"),
    [
        ("error: unexpected argument '--x' found\n", "error: unexpected argument '--x' found", "startup_crash"),
        ("Reading prompt from stdin...\n\x1b[31mError\x1b[0m: Missing environment variable: `X`.\n", None, "auth_error"),
    ],
)
def test_a_start_that_fails_is_told_by_stderr(stderr: str, text: str | None, category: ev.ErrorCategory) -> None:
    to = dialogue("exec")
    to.start(Turn("Hello"))
    text = f"the process ended without a result (exit code 1)\n{text or 'Error: Missing environment variable: `X`.'}"
    assert to.finish(Exit(1, stderr=stderr)) == [ev.error_detail(category, text), ev.done("failed", category)]


def test_a_process_that_dies_in_mid_turn_is_a_crash_whatever_its_log_speaks_of() -> None:
    to = in_turn()
    ended_by = to.finish(Exit(signal=9, stderr="ERROR mcp: error sending request"))
    assert ended_by[-1] == ev.done("failed", "runtime_crash")
