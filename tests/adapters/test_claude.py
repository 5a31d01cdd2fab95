"""What Claude Code's recordings cannot show: how it is started, what is written to it, and lines made up to be hostile."""

import json
from itertools import count
from typing import Any

import pytest

from adapters import events as ev
from adapters.dialogue import Dialogue, Exit, Turn, Unsupported
from adapters.events import Event
from adapters.profile import Launch, Plan
from adapters.runtimes.claude.profile import PROFILE

INIT = {"type": "system", "subtype": "init", "session_id": "s1", "mcp_servers": []}
END = {"type": "stream_event", "event": {"type": "message_stop"}, "parent_tool_use_id": None}
SAVED = "<persisted-output>\nOutput too large. Full output saved to: /x\n\nPreview (first 2KB):\na\nb\n...\n</persisted-output>"
COMMON = ("claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages")
BYPASS = ("--dangerously-skip-permissions", "--strict-mcp-config")
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    "CLAUDE_CODE_MAX_RETRIES": "3",
    "DISABLE_AUTOUPDATER": "1",
}


def launch(mode: str, turn: Turn, **more: Any) -> Launch:
    start = PROFILE.mode(mode).launch
    assert start is not None
    return start(Plan(executable="claude", home="/home/agent", turn=turn, provider="anthropic", **more))


def dialogue(mode: str = "stream") -> Dialogue:
    ids = count(1)
    return PROFILE.mode(mode).dialogue(lambda: f"call_{next(ids)}")


def said(lines: list[bytes]) -> list[Any]:
    return [json.loads(line) for line in lines]


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}, **more}


def delta(text: str) -> dict[str, Any]:
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return {"type": "stream_event", "event": event, "parent_tool_use_id": None}


def begin(id: str) -> dict[str, Any]:
    return {"type": "stream_event", "event": {"type": "message_start", "message": {"id": id}}, "parent_tool_use_id": None}


def assistant(id: str, *blocks: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": id, "content": list(blocks)}, "parent_tool_use_id": parent}


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def call(name: str, input: Any, id: str = "toolu_1") -> dict[str, Any]:
    return assistant("m1", {"type": "tool_use", "id": id, "name": name, "input": input})


def answer(content: Any, own: Any = None, *, is_error: bool = False, id: str = "toolu_1") -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error}
    return {"type": "user", "message": {"content": [block]}, "parent_tool_use_id": None, "tool_use_result": own}


def result(**more: Any) -> dict[str, Any]:
    plain = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
    }
    return plain | {"total_cost_usd": 0, "modelUsage": {}} | more


ABORTED = result(subtype="error_during_execution", is_error=True, stop_reason=None, terminal_reason="aborted_streaming")


def feed(it: Dialogue, *messages: dict[str, Any]) -> list[Event]:
    return [event for message in messages for event in it.feed(json.dumps(message, ensure_ascii=False).encode()).events]


def visible(events: list[Event]) -> list[Event]:
    return [event for event in events if event.level != "internal"]


def of_type(events: list[Event], type: str) -> list[dict[str, Any]]:
    return [event.body for event in events if event.type == type]


# -- how it is started


def test_a_new_conversation_starts_both_ways_with_the_session_id_we_chose() -> None:
    turn = Turn("hi", model="claude-sonnet-4-5", new_session="11111111-2222-4333-8444-555555555555")
    tail = ("--model", "claude-sonnet-4-5", "--session-id", "11111111-2222-4333-8444-555555555555")
    two_way = ("--input-format", "stream-json", "--replay-user-messages")
    assert launch("stream", turn) == Launch((*COMMON, *two_way, *BYPASS, *tail), env=QUIET, keep_stdin=True)
    assert launch("print", turn) == Launch((*COMMON, *BYPASS, *tail), env=QUIET)


def test_a_known_conversation_is_resumed_and_the_limit_of_turns_is_passed_on() -> None:
    turn = Turn("hi", native_session="s1", new_session="unused")
    assert launch("print", turn, max_turns=7).argv == (*COMMON, *BYPASS, "--max-turns", "7", "--resume", "s1")


def test_as_root_the_runtime_is_told_that_it_is_in_a_sandbox() -> None:
    assert launch("stream", Turn("hi"), is_root=True).env == QUIET | {"IS_SANDBOX": "1"}


def test_the_agents_variables_reach_the_child_and_may_change_the_number_of_retries() -> None:
    env = {"ANTHROPIC_API_KEY": "sk", "CLAUDE_CODE_MAX_RETRIES": "1"}
    assert launch("stream", Turn("hi"), env=env).env == QUIET | env
    assert set(env) <= set(PROFILE.all_env_names())


def test_servers_and_system_prompt_go_into_files_and_never_into_argv() -> None:
    servers = (
        {"name": "tiny", "command": ["python3", "-u"], "args": ["server.py"], "env": {"TOKEN": "secret"}},
        {"name": "far", "url": "https://example.org/mcp", "headers": {"Authorization": "secret"}},
    )
    it = launch("stream", Turn("hi", system_prompt="--be brief", mcp_servers=servers))
    assert it.argv[-4:] == (
        "--mcp-config",
        "/home/agent/.claude/mcp-servers.json",
        "--append-system-prompt-file",
        "/home/agent/.claude/system-prompt.md",
    )
    assert it.files[".claude/system-prompt.md"] == "--be brief"
    assert json.loads(it.files[".claude/mcp-servers.json"]) == {
        "mcpServers": {
            "tiny": {"type": "stdio", "command": "python3", "args": ["-u", "server.py"], "env": {"TOKEN": "secret"}},
            "far": {"type": "http", "url": "https://example.org/mcp", "headers": {"Authorization": "secret"}},
        }
    }


# -- what is written to it


def test_a_prompt_is_written_as_text_one_line_even_with_a_line_separator() -> None:
    outgoing = dialogue().start(Turn("a\u2028b\nc")).outgoing
    assert said(outgoing) == [user("a\u2028b\nc")]
    assert outgoing[0].isascii()
    assert outgoing[0].count(b"\n") == 1
    assert dialogue("print").start(Turn("grün")).outgoing == ["grün".encode()]


def test_a_prompt_with_a_leading_slash_is_no_slash_command() -> None:
    it = dialogue()
    assert said(it.start(Turn("/compact")).outgoing) == [user(" /compact")]
    assert [line["message"]["content"] for line in said(it.steer("/clear"))] == [[text(" /clear")]]
    assert dialogue("print").start(Turn("/compact")).outgoing == [b" /compact"]


def test_print_takes_no_message_and_no_interrupt() -> None:
    it = dialogue("print")
    it.start(Turn("hi"))
    with pytest.raises(Unsupported):
        it.steer("more")
    with pytest.raises(Unsupported):
        it.interrupt()


def test_every_permission_is_given_and_every_other_request_refused_at_once() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    asked = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "x"}}
    allow = it.feed(json.dumps({"type": "control_request", "request_id": "r1", "request": asked}).encode())
    other = it.feed(json.dumps({"type": "control_request", "request_id": "r2", "request": {"subtype": "elicitation"}}).encode())
    answer = {"behavior": "allow", "updatedInput": {"file_path": "x"}}
    assert allow.events + other.events == []
    assert said(allow.outgoing + other.outgoing) == [
        {"type": "control_response", "response": {"subtype": "success", "request_id": "r1", "response": answer}},
        {
            "type": "control_response",
            "response": {"subtype": "error", "request_id": "r2", "error": "not supported: elicitation"},
        },
    ]


def test_a_message_that_joined_the_turn_is_answered_by_its_result() -> None:
    it = dialogue()
    it.start(Turn("work"))
    [steer] = said(it.steer("hurry"))
    feed(it, INIT, user("work", isReplay=True), user("hurry", isReplay=True, uuid=steer["uuid"]))
    assert visible(feed(it, result())) == [ev.done("completed")]


def test_a_message_is_taken_when_it_is_echoed() -> None:
    """[STEER-1] Of several that are taken together, the echo has the uuid of the last."""
    it = dialogue()
    it.start(Turn("work"))
    feed(it, INIT, user("work", isReplay=True))
    first, last = (said(it.steer("hurry", id))[0]["uuid"] for id in ("trn_2", "trn_3"))
    assert first != last
    both = {"type": "user", "isReplay": True, "uuid": last, "message": {"content": [text("hurry"), text("hurry")]}}
    assert feed(it, both) == [ev.steered("trn_2"), ev.steered("trn_3")]
    assert visible(feed(it, result())) == [ev.done("completed")]


def test_a_message_that_waited_holds_the_end_back_until_its_own_result() -> None:
    it = dialogue()
    it.start(Turn("work"))
    feed(it, INIT, user("work", isReplay=True))
    it.steer("hurry")
    it.steer("hurry")
    assert feed(it, result()) == []
    assert feed(it, user("hurry", isReplay=True, uuid="other"), INIT) == []
    merged = {"type": "user", "isReplay": True, "message": {"content": [text("hurry"), text("hurry")]}}
    assert visible(feed(it, merged, result())) == [ev.done("completed")]


def test_the_failure_of_a_turn_that_a_waiting_message_outlived_is_told_to_the_owner() -> None:
    it = dialogue()
    it.start(Turn("work"))
    it.steer("go on")
    feed(it, INIT, user("work", isReplay=True))
    events = feed(it, result(subtype="error_max_turns", is_error=True, errors=["Reached maximum number of turns (1)"]))
    assert events == [ev.error_detail("budget_exceeded", "Reached maximum number of turns (1)")]


def test_an_interrupt_takes_waiting_messages_back_and_ends_the_turn_as_canceled() -> None:
    it = dialogue()
    it.start(Turn("work"))
    [steer] = said(it.steer("hurry"))
    back, stop = said(it.interrupt())
    assert back["request"] == {"subtype": "cancel_async_message", "message_uuid": steer["uuid"]}
    assert stop["request"] == {"subtype": "interrupt"}
    taken = {"subtype": "success", "request_id": back["request_id"], "response": {"cancelled": True}}
    feed(it, {"type": "control_response", "response": taken})
    assert visible(feed(it, ABORTED)) == [ev.done("canceled")]
    with pytest.raises(Unsupported):
        it.steer("too late")


def test_an_interrupted_turn_is_canceled_even_if_its_message_was_never_heard_of_again() -> None:
    it = dialogue()
    it.start(Turn("work"))
    it.steer("hurry")
    it.interrupt()
    assert visible(feed(it, ABORTED)) == [ev.done("canceled")]


def test_a_process_that_dies_after_an_interrupt_was_canceled() -> None:
    it = dialogue()
    it.start(Turn("work"))
    it.interrupt()
    assert it.finish(Exit(code=143)) == [ev.done("canceled")]


def test_a_resumed_turn_tells_its_session_only_if_it_changed() -> None:
    it = dialogue()
    it.start(Turn("hi", native_session="s1"))
    assert feed(it, INIT) == []
    assert feed(it, INIT | {"session_id": "s2"}) == [ev.native_session("s2")]


def test_usage_is_what_the_turn_added_to_the_totals_of_the_process() -> None:
    def totals(input: int, output: int, cost: float) -> dict[str, Any]:
        used = {"inputTokens": input, "cacheReadInputTokens": 10, "cacheCreationInputTokens": 5, "outputTokens": output}
        return result(modelUsage={"a": used, "b": used}, total_cost_usd=cost)

    it = dialogue()
    it.start(Turn("one"))
    first = feed(it, totals(100, 7, 0.25))
    it.start(Turn("two"))
    second = feed(it, totals(150, 9, 0.75))
    assert first[0] == ev.usage(input_tokens=230, output_tokens=14, cached_tokens=20, cost_usd=0.25)
    assert second[0] == ev.usage(input_tokens=100, output_tokens=4, cached_tokens=0, cost_usd=0.5)


# -- what it says


def test_an_answer_that_begins_anew_is_said_once_as_far_as_it_repeats() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    feed(it, begin("m1"), delta("The answer "), delta("is"))
    events = feed(it, begin("m2"), delta("The "), delta("answer is"), delta(" 42"), delta("."))
    assert events == [ev.chunk(" 42"), ev.chunk(".")]


def test_an_answer_that_begins_anew_differently_is_a_new_paragraph() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    feed(it, begin("m1"), delta("The answer"))
    assert feed(it, begin("m2"), delta("The "), delta("number")) == [ev.chunk("\n\nThe number")]


def test_only_what_was_not_streamed_of_a_whole_message_is_said() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    first = feed(it, begin("m1"), delta("a"), assistant("m1", text("ab")), assistant("m1", text("c")), END)
    events = [*first, *feed(it, assistant("m2", text("a")))]
    assert events == [ev.chunk("a"), ev.chunk("b"), ev.chunk("c"), ev.chunk("a")]


def test_a_sub_agents_text_is_not_said_and_its_tools_are_shown() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    tool = {"type": "tool_use", "id": "t2", "name": "Read", "input": {"file_path": "/workspace/a.txt"}}
    events = feed(it, assistant("m9", text("thinking aloud"), tool, parent="toolu_1"))
    assert events == [ev.tool_start("call_1", "read_file", {"path": "a.txt"}, "Read a.txt")]


def test_what_the_runtime_says_in_the_models_place_is_never_a_chunk() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    own = {"type": "assistant", "message": {"model": "<synthetic>", "id": "x", "content": [text("Vendor says hello")]}}
    assert feed(it, own) == [ev.notice("synthetic", "Vendor says hello")]


@pytest.mark.parametrize(
    ("name", "input", "tool", "canonical"),
    [
        ("Bash", {"command": "ls", "timeout": 5, "description": "List"}, "shell", {"command": "ls", "timeout_ms": 5}),
        ("Read", {"file_path": "/workspace/a", "offset": 2}, "read_file", {"path": "a", "offset": 2}),
        ("Write", {"file_path": "a", "content": ""}, "write_file", {"path": "a", "content": ""}),
        (
            "Edit",
            {"file_path": "a", "old_string": "x", "new_string": "y", "replace_all": True},
            "edit_file",
            {"path": "a", "edits": [{"old": "x", "new": "y"}]},
        ),
        (
            "MultiEdit",
            {"file_path": "a", "edits": [{"old_string": "x", "new_string": "y"}, {"old_string": "z", "new_string": ""}]},
            "edit_file",
            {"path": "a", "edits": [{"old": "x", "new": "y"}, {"old": "z", "new": ""}]},
        ),
        (
            "NotebookEdit",
            {"notebook_path": "a.ipynb", "new_source": "1"},
            "edit_file",
            {"path": "a.ipynb", "edits": [{"old": "", "new": "1"}]},
        ),
        ("LS", {"path": "/workspace"}, "list_files", {"path": "."}),
        ("Glob", {"pattern": "*.py"}, "search_files", {"pattern": "*.py"}),
        ("Grep", {"pattern": "x", "path": "src", "output_mode": "count"}, "search_files", {"pattern": "x", "path": "src"}),
        ("WebFetch", {"url": "https://a", "prompt": "p"}, "web_fetch", {"url": "https://a"}),
        ("WebSearch", {"query": "q"}, "web_search", {"query": "q"}),
        (
            "TodoWrite",
            {"todos": [{"content": "x", "status": "pending", "activeForm": "X"}]},
            "plan",
            {"items": [{"text": "x", "status": "pending"}]},
        ),
        ("Agent", {"prompt": "p", "subagent_type": "Explore"}, "subagent", {"prompt": "p"}),
        ("mcp__my_srv__do__it", {"path": 1}, "mcp:my srv/do__it", {"path": 1}),
        ("mcp__unknown__x", {}, "mcp:unknown/x", {}),
        ("Skill", {"skill": "secret"}, "other", {}),
        ("TodoWrite", {"todos": "nonsense"}, "other", {}),
    ],
)
def test_tools_are_called_by_canonical_names(name: str, input: Any, tool: str, canonical: dict[str, Any]) -> None:
    it = dialogue()
    it.start(Turn("hi", mcp_servers=({"name": "my srv"},)))
    [start] = visible(feed(it, call(name, input)))
    assert (start.body["tool"], start.body["input"]) == (tool, canonical)


@pytest.mark.parametrize(
    ("content", "own", "is_error", "expected"),
    [
        (
            "a\nShell cwd was reset to /x",
            {"stdout": "a", "stderr": "\nShell cwd was reset to /x"},
            False,
            ("a", False, 0, False),
        ),
        ("(Bash completed with no output)", None, False, ("", False, 0, False)),
        ("", {"stdout": "", "returnCodeInterpretation": "No matches found"}, False, ("", True, 1, False)),
        ("", {"stdout": "half", "interrupted": True}, False, ("half", True, None, False)),
        ("Command running in background with ID: b", {"stdout": "", "backgroundTaskId": "b"}, False, ("", False, None, False)),
        ("Exit code 2\nExit code 7", "Error: Exit code 2\nExit code 7", True, ("Exit code 7", True, 2, False)),
        ("Exit code 143\nCommand timed out after 1s\nhalf", "Error", True, ("half", True, 143, False)),
        (
            "Exit code 1\na\n... [5 characters truncated] ...\nb",
            "",
            True,
            ("a\n... [5 characters truncated] ...\nb", True, 1, True),
        ),
        ("The user doesn't want to proceed", "Error", True, ("", True, None, False)),
        (SAVED, None, False, ("a\nb", False, 0, True)),
    ],
)
def test_a_commands_own_output_is_told_from_the_runtimes_remarks(content: str, own: Any, is_error: bool, expected: Any) -> None:
    it = dialogue()
    it.start(Turn("hi"))
    feed(it, call("Bash", {"command": "x"}))
    [shown] = visible(feed(it, answer(content, own, is_error=is_error)))
    assert tuple(shown.body[key] for key in ("output", "is_error", "exit_code", "truncated")) == expected


def test_a_servers_long_answer_is_taken_whole_and_the_runtimes_refusal_is_hidden() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    feed(it, call("mcp__a__b", {}, "t1"), call("mcp__a__b", {}, "t2"))
    long = feed(it, answer("<persisted-output>\nsaved to: /x", [text("y" * 40_000)], id="t1"))
    refused = feed(it, answer("Claude requested permissions to use a", "Error", is_error=True, id="t2"))
    assert visible(long) == [ev.tool_result("call_1", "y" * 30_000, truncated=True)]
    assert visible(refused) == [ev.tool_result("call_2", "", is_error=True)]


def test_the_plan_is_told_as_a_whole_and_remembered_by_the_next_turn() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    feed(it, call("TaskCreate", {"subject": "Read"}, "t1"), answer("ok", {"task": {"id": "1"}}, id="t1"), result())
    later = dialogue()
    later.start(Turn("hi", memory=json.loads(json.dumps(it.memory))))
    [start] = visible(feed(later, call("TaskUpdate", {"taskId": "1", "status": "completed"}, "t2")))
    assert start.body["input"] == {"items": [{"text": "Read", "status": "completed"}]}


@pytest.mark.parametrize(
    ("stderr", "category"),
    [
        ("Error: Session ID 1-2 is already in use.", "duplicate_session"),
        ("Error: Invalid MCP configuration:\nMCP config file not found", "startup_crash"),
        ("Invalid API key · Please run /login", "auth_error"),
        ("Segmentation fault", "startup_crash"),
    ],
)
def test_a_failure_that_shows_on_stderr_only_has_its_category(stderr: str, category: str) -> None:
    it = dialogue()
    it.start(Turn("hi"))
    [done] = visible(it.finish(Exit(code=1, stderr=stderr)))
    assert done.body["error"]["category"] == category


@pytest.mark.parametrize(("status", "category"), [(401, "auth_error"), (403, "permission_denied")])
def test_a_forbidden_request_is_no_failed_sign_in(status: int, category: str) -> None:
    it = dialogue()
    it.start(Turn("hi"))
    synthetic = assistant("m1", {"type": "text", "text": "Failed to authenticate."}) | {"error": "authentication_failed"}
    synthetic["message"]["model"] = "<synthetic>"
    *_, done = visible(feed(it, synthetic, result(is_error=True, result="Failed to authenticate.", api_error_status=status)))
    assert done.body["error"]["category"] == category


def test_hostile_lines_are_kept_and_change_nothing() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    lines = [
        b"\xff\xfe not JSON",
        b'{"type":"surprise"}',
        b'{"type":"assistant","message":5,"parent_tool_use_id":null}',
        b'{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta"}}}',
        b'{"type":"control_response"}',
        b"[" * 100_000,
    ]
    events = [event for line in lines for event in it.feed(line).events]
    assert [event.type for event in events] == ["raw"] * len(lines)
    big = feed(it, begin("m1"), delta("x" * 2_000_000 + "\u2028\x1b[0m"))
    assert of_type(big, "chunk") == [{"text": "x" * 2_000_000 + "\u2028\x1b[0m"}]
    assert visible(feed(it, assistant("m1", text("x" * 2_000_000 + "\u2028\x1b[0m")), result())) == [ev.done("completed")]


def test_what_comes_after_the_end_of_a_turn_is_kept_and_never_said() -> None:
    it = dialogue("print")
    it.start(Turn("hi"))
    feed(it, INIT, result())
    events = feed(it, {"type": "system", "subtype": "task_notification"}, begin("m2"), delta("late"), result())
    assert [event.body["reason"] for event in events] == ["outside a turn"] * 3


def test_tokens_are_counted_with_every_call_of_the_model_and_of_sub_agents_too() -> None:
    """[LIMIT-1]"""
    it = dialogue()
    it.start(Turn("work"))

    def told(**event: Any) -> dict[str, Any]:
        return {"type": "stream_event", "parent_tool_use_id": None, "event": event}

    usage = {"input_tokens": 3, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5}
    start = told(type="message_start", message={"id": "m1", "usage": usage})
    end = told(type="message_delta", delta={}, usage={"output_tokens": 4})
    feed(it, INIT, start, end, {**start, "parent_tool_use_id": "t1"}, end)
    assert (it.spent.input_tokens, it.spent.output_tokens) == (36, 8)


def test_whoever_asked_for_a_permission_is_known_until_the_next_line() -> None:
    it = dialogue()
    it.start(Turn("hi"))
    request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {}}
    it.feed(json.dumps({"type": "control_request", "request_id": "r1", "request": request}).encode())
    assert it.asked == "Write"
    feed(it, INIT)
    assert it.asked == ""
