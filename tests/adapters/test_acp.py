"""The ACP dialogue where recordings cannot show it: what it sends, and how agents differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar

import pytest

from adapters import acp_tools
from adapters import events as ev
from adapters.acp import AcpDialogue
from adapters.dialogue import Exit, Step, Turn, Unsupported
from adapters.profile import Plan
from adapters.runtimes.acp.profile import PROFILE


class Joining(AcpDialogue):
    prompt_joins: ClassVar[bool] = True


class InYoloMode(AcpDialogue):
    mode_id: ClassVar[str | None] = "yolo"


def new_ids() -> Callable[[], str]:
    ids = count(1)
    return lambda: f"call_{next(ids)}"


def sent(lines: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def feed(dialogue: AcpDialogue, message: dict[str, Any]) -> Step:
    return dialogue.feed(json.dumps({"jsonrpc": "2.0", **message}).encode())


def answer(dialogue: AcpDialogue, id: int, result: dict[str, Any]) -> Step:
    return feed(dialogue, {"id": id, "result": result})


def update(dialogue: AcpDialogue, body: dict[str, Any], session: str = "s1") -> list[ev.Event]:
    return feed(dialogue, {"method": "session/update", "params": {"sessionId": session, "update": body}}).events


def text(words: str, kind: str = "agent_message_chunk") -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": words}}


def prompting(turn: Turn | None = None, kind: type[AcpDialogue] = AcpDialogue) -> AcpDialogue:
    """A dialogue whose prompt is on its way: requests 1 to 3 are sent."""
    dialogue = kind(new_ids())
    dialogue.start(turn or Turn("hi"))
    answer(dialogue, 1, {"protocolVersion": 1, "agentCapabilities": {"loadSession": True}})
    answer(dialogue, 2, {"sessionId": "s1"})
    return dialogue


def loading() -> AcpDialogue:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi", native_session="old"))
    answer(dialogue, 1, {"agentCapabilities": {"loadSession": True}})
    return dialogue


def test_the_handshake_declares_no_capabilities_and_opens_a_session_in_the_workspace() -> None:
    dialogue = AcpDialogue(new_ids())
    first = sent(dialogue.start(Turn("hi", workspace="/w")).outgoing)
    second = sent(answer(dialogue, 1, {"protocolVersion": 1}).outgoing)
    third = answer(dialogue, 2, {"sessionId": "s1"})
    assert first[0]["method"] == "initialize"
    assert first[0]["params"]["clientCapabilities"] == {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
    }
    new_session = {"jsonrpc": "2.0", "id": 2, "method": "session/new", "params": {"cwd": "/w", "mcpServers": []}}
    prompt = {"sessionId": "s1", "prompt": [{"type": "text", "text": "hi"}]}
    assert second == [new_session]
    assert sent(third.outgoing) == [{"jsonrpc": "2.0", "id": 3, "method": "session/prompt", "params": prompt}]
    assert third.events == [ev.native_session("s1")]


def test_the_second_turn_of_a_process_prompts_at_once() -> None:
    dialogue = prompting()
    answer(dialogue, 3, {"stopReason": "end_turn"})
    step = dialogue.start(Turn("again", native_session="s1"))
    assert sent(step.outgoing)[0]["params"] == {"sessionId": "s1", "prompt": [{"type": "text", "text": "again"}]}


def test_the_system_prompt_is_told_once_before_the_first_prompt() -> None:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi", system_prompt="Be kind."))
    answer(dialogue, 1, {})
    first = sent(answer(dialogue, 2, {"sessionId": "s1"}).outgoing)
    answer(dialogue, 3, {"stopReason": "end_turn"})
    second = sent(dialogue.start(Turn("again", system_prompt="Be kind.")).outgoing)
    assert [block["text"] for block in first[0]["params"]["prompt"]] == ["Be kind.", "hi"]
    assert [block["text"] for block in second[0]["params"]["prompt"]] == ["again"]


def test_mcp_servers_are_given_to_the_new_session() -> None:
    servers = (
        {"name": "files", "command": "serve", "args": ["-v"], "env": {"A": "1"}},
        {"name": "web", "url": "http://127.0.0.1/mcp", "headers": {"H": "2"}},
    )
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi", mcp_servers=servers))
    request = sent(answer(dialogue, 1, {}).outgoing)[0]
    assert request["params"]["mcpServers"] == [
        {"name": "files", "command": "serve", "args": ["-v"], "env": [{"name": "A", "value": "1"}]},
        {"type": "http", "name": "web", "url": "http://127.0.0.1/mcp", "headers": [{"name": "H", "value": "2"}]},
    ]


def test_what_a_load_replays_is_dropped_until_it_is_answered() -> None:
    dialogue = loading()
    assert update(dialogue, text("old question", "user_message_chunk"), "old") == []
    assert update(dialogue, text("old answer"), "old") == []
    step = answer(dialogue, 2, {})
    assert (step.events, sent(step.outgoing)[0]["params"]["sessionId"]) == ([], "old")
    assert update(dialogue, text("new answer"), "old") == [ev.chunk("new answer")]


def test_a_refused_load_opens_a_new_session_and_says_so() -> None:
    dialogue = loading()
    refused = feed(dialogue, {"id": 2, "error": {"code": -32603, "message": "no such session"}})
    assert refused.events == [ev.notice("resume_failed", "no such session")]
    assert sent(refused.outgoing)[0]["method"] == "session/new"
    assert answer(dialogue, 3, {"sessionId": "s2"}).events == [ev.native_session("s2")]


def test_an_agent_that_cannot_load_gets_a_new_session() -> None:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi", native_session="old"))
    step = answer(dialogue, 1, {"agentCapabilities": {}})
    assert [event.body["kind"] for event in step.events] == ["resume_failed"]
    assert sent(step.outgoing)[0]["method"] == "session/new"


def test_mode_and_model_are_chosen_before_the_prompt_where_offered() -> None:
    dialogue = InYoloMode(new_ids())
    dialogue.start(Turn("hi", model="big"))
    answer(dialogue, 1, {})
    offered = {
        "modes": {"availableModes": [{"id": "default"}, {"id": "yolo"}], "currentModeId": "default"},
        "models": {"availableModels": [{"modelId": "small"}, {"modelId": "big"}], "currentModelId": "small"},
    }
    mode = sent(answer(dialogue, 2, {"sessionId": "s1", **offered}).outgoing)
    model = sent(answer(dialogue, 3, {}).outgoing)
    prompt = sent(feed(dialogue, {"id": 4, "error": {"code": -1, "message": "no"}}).outgoing)
    assert (mode[0]["method"], mode[0]["params"]) == ("session/set_mode", {"sessionId": "s1", "modeId": "yolo"})
    assert (model[0]["method"], model[0]["params"]) == ("session/set_model", {"sessionId": "s1", "modelId": "big"})
    assert [line["method"] for line in prompt] == ["session/prompt"]


def test_a_model_offered_as_an_option_is_chosen_with_its_provider() -> None:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi", model="big"))
    answer(dialogue, 1, {})
    option = {"id": "m", "category": "model", "currentValue": "a/small", "options": [{"value": "a/small"}, {"value": "a/big"}]}
    step = answer(dialogue, 2, {"sessionId": "s1", "configOptions": [option]})
    assert sent(step.outgoing)[0]["params"] == {"sessionId": "s1", "configId": "m", "value": "a/big"}


def test_a_new_session_without_an_id_fails_the_turn() -> None:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi"))
    answer(dialogue, 1, {})
    assert answer(dialogue, 2, {}).events[-1] == ev.done("failed", "protocol_error")


OPTIONS = [
    {"optionId": "no", "kind": "reject_once"},
    {"optionId": "always", "kind": "allow_always"},
    {"optionId": "once", "kind": "allow_once"},
]


def ask_permission(dialogue: AcpDialogue, options: list[dict[str, str]]) -> Step:
    call = {"toolCallId": "t", "kind": "execute", "title": "ls", "status": "pending", "rawInput": {"command": "ls"}}
    params = {"sessionId": "s1", "toolCall": call, "options": options}
    return feed(dialogue, {"id": 7, "method": "session/request_permission", "params": params})


def test_a_permission_is_granted_at_once_and_starts_the_call() -> None:
    step = ask_permission(prompting(), OPTIONS)
    outcome = {"outcome": {"outcome": "selected", "optionId": "once"}}
    assert sent(step.outgoing) == [{"jsonrpc": "2.0", "id": 7, "result": outcome}]
    assert step.events == [ev.tool_start("call_1", "shell", {"command": "ls"}, "ls")]


def test_a_permission_without_a_way_to_allow_is_cancelled() -> None:
    step = ask_permission(prompting(), OPTIONS[:1])
    assert (step.events, sent(step.outgoing)[0]["result"]) == ([], {"outcome": {"outcome": "cancelled"}})


def test_a_permission_asked_after_an_interrupt_is_cancelled() -> None:
    dialogue = prompting()
    dialogue.interrupt()
    assert sent(ask_permission(dialogue, OPTIONS).outgoing)[0]["result"] == {"outcome": {"outcome": "cancelled"}}


@pytest.mark.parametrize("method", ["fs/read_text_file", "terminal/create", "_agent/own"])
def test_other_requests_of_the_agent_are_answered_method_not_found(method: str) -> None:
    step = feed(prompting(), {"id": "a-1", "method": method, "params": {}})
    error = {"code": -32601, "message": "Method not found"}
    assert (step.events, sent(step.outgoing)) == ([], [{"jsonrpc": "2.0", "id": "a-1", "error": error}])


def test_an_interrupt_cancels_the_prompt_and_the_turn_ends_as_canceled() -> None:
    dialogue = prompting()
    cancel = {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s1"}}
    assert sent(dialogue.interrupt()) == [cancel]
    assert answer(dialogue, 3, {"stopReason": "cancelled"}).events == [ev.done("canceled")]


def test_an_error_that_follows_an_interrupt_is_its_end() -> None:
    dialogue = prompting()
    dialogue.interrupt()
    events = feed(dialogue, {"id": 3, "error": {"code": -32603, "message": "aborted"}}).events
    assert events == [ev.notice("error", "aborted"), ev.done("canceled")]


def test_an_interrupt_before_the_prompt_keeps_it_from_being_sent() -> None:
    dialogue = AcpDialogue(new_ids())
    dialogue.start(Turn("hi"))
    assert dialogue.interrupt() == []
    answer(dialogue, 1, {})
    step = answer(dialogue, 2, {"sessionId": "s1"})
    assert (step.events[-1], step.outgoing) == (ev.done("canceled"), [])


def test_a_message_in_mid_turn_is_unsupported_where_it_might_cancel_the_turn() -> None:
    with pytest.raises(Unsupported):
        prompting().steer("and this")


def test_a_joined_prompt_keeps_the_turn_open_until_both_are_answered() -> None:
    dialogue = prompting(kind=Joining)
    request = sent(dialogue.steer("and this"))[0]
    assert request["params"]["prompt"] == [{"type": "text", "text": "and this"}]
    assert answer(dialogue, 3, {"stopReason": "end_turn"}).events == []
    assert answer(dialogue, 4, {"stopReason": "end_turn"}).events == [ev.done("completed")]


def test_a_joined_prompt_was_taken_once_it_is_answered() -> None:
    """[STEER-1]"""
    dialogue = prompting(kind=Joining)
    dialogue.steer("and this", "trn_2")
    assert answer(dialogue, 4, {"stopReason": "end_turn"}).events == [ev.steered("trn_2")]
    dialogue.steer("and that", "trn_3")
    assert answer(dialogue, 3, {"stopReason": "end_turn"}).events == []
    assert answer(dialogue, 5, {"stopReason": "end_turn"}).events == [ev.steered("trn_3"), ev.done("completed")]


@pytest.mark.parametrize("said", [{"result": {"stopReason": "cancelled"}}, {"error": {"code": -1, "message": "busy"}}])
def test_a_joined_prompt_that_was_refused_or_cancelled_was_not_taken(said: dict[str, Any]) -> None:
    """[STEER-2]"""
    dialogue = prompting(kind=Joining)
    dialogue.steer("and this", "trn_2")
    events = feed(dialogue, {"id": 4, **said}).events + answer(dialogue, 3, {"stopReason": "end_turn"}).events
    assert [event.type for event in events if event.type != "notice"] == ["done"]


def test_a_joined_prompt_that_is_refused_does_not_fail_the_turn() -> None:
    dialogue = prompting(kind=Joining)
    dialogue.steer("and this")
    assert feed(dialogue, {"id": 4, "error": {"code": -1, "message": "busy"}}).events == [ev.notice("error", "busy")]
    assert answer(dialogue, 3, {"stopReason": "end_turn"}).events == [ev.done("completed")]


def test_nothing_joins_before_the_prompt_is_sent() -> None:
    dialogue = Joining(new_ids())
    dialogue.start(Turn("hi"))
    with pytest.raises(Unsupported):
        dialogue.steer("and this")


@pytest.mark.parametrize(
    ("stop", "done"),
    [
        ("end_turn", ev.done("completed")),
        ("cancelled", ev.done("canceled")),
        ("max_tokens", ev.done("failed", "output_limit")),
        ("max_turn_requests", ev.done("max_turns", "budget_exceeded")),
        ("refusal", ev.done("failed", "content_refused")),
    ],
)
def test_a_stop_reason_decides_how_the_turn_ends(stop: str, done: ev.Event) -> None:
    assert answer(prompting(), 3, {"stopReason": stop}).events[-1] == done


@pytest.mark.parametrize(
    ("error", "category"),
    [
        ({"code": -32000, "message": "Authentication required"}, "auth_error"),
        ({"code": -32603, "message": "Internal error: Incorrect API key provided: x"}, "auth_error"),
        ({"code": 429, "message": "You exceeded your current quota"}, "quota_exceeded"),
        ({"code": 429, "message": "slow down"}, "rate_limit"),
        ({"code": 404, "message": "?"}, "model_not_found"),
        ({"code": 400, "message": "prompt is too long"}, "context_overflow"),
        ({"code": 400, "message": "bad value"}, "invalid_request"),
        ({"code": 503, "message": "?"}, "upstream_api_error"),
        ({"code": -32603, "message": "?", "data": {"statusCode": 401}}, "auth_error"),
        ({"code": -32603, "message": "Internal error", "data": {"details": "fetch failed"}}, "upstream_api_error"),
        ({"code": -32602, "message": "Invalid params"}, "protocol_error"),
        ({"code": -32603, "message": "Internal error"}, "runtime_crash"),
    ],
)
def test_an_error_answer_becomes_a_category(error: dict[str, Any], category: ev.ErrorCategory) -> None:
    events = feed(prompting(), {"id": 3, "error": error}).events
    assert events[-1] == ev.done("failed", category)
    assert events[0].body["category"] == category


def test_a_call_is_told_once_its_input_is_complete() -> None:
    dialogue = prompting()
    call = {"toolCallId": "t", "kind": "execute", "title": "terminal", "rawInput": {}}
    told = update(dialogue, {"sessionUpdate": "tool_call", "status": "pending", **call})
    running = {
        "sessionUpdate": "tool_call_update",
        "toolCallId": "t",
        "status": "in_progress",
        "rawInput": {"command": ["ls", "-l"]},
    }
    told += update(dialogue, running) + update(dialogue, running)
    output = [{"type": "content", "content": {"type": "text", "text": "a\nb"}}]
    ended = {"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed", "content": output}
    told += update(dialogue, ended) + update(dialogue, ended)
    assert [event for event in told if event.level != "internal"] == [
        ev.tool_start("call_1", "shell", {"command": "ls -l"}, "ls -l"),
        ev.tool_result("call_1", "a\nb"),
    ]


def test_a_diff_names_the_file_and_the_edits() -> None:
    diff = {"type": "diff", "path": "/workspace/a.txt", "oldText": "x", "newText": "y"}
    call = {"toolCallId": "t", "kind": "edit", "title": "Edit a.txt", "status": "in_progress", "content": [diff]}
    events = update(prompting(), {"sessionUpdate": "tool_call", **call, "locations": [{"path": "/workspace/a.txt"}]})
    assert events[0] == ev.tool_start(
        "call_1", "edit_file", {"path": "a.txt", "edits": [{"old": "x", "new": "y"}]}, "Edit a.txt"
    )


@pytest.mark.parametrize(
    "name", ["mcp__my-files__read", "my-files_read", "mcp_my-files_read", "my-files/read", "read (my-files MCP Server)"]
)
def test_a_tool_of_a_configured_server_is_known_however_it_is_spelled(name: str) -> None:
    assert acp_tools.mcp_tool(name, ["files", "my-files"]) == "mcp:my-files/read"


def test_a_plan_is_a_tool_call_of_its_own() -> None:
    entries = [{"content": "look", "priority": "high", "status": "completed"}]
    events = update(prompting(), {"sessionUpdate": "plan", "entries": entries})
    items = [{"text": "look", "status": "completed"}]
    assert events == [ev.tool_start("call_1", "plan", {"items": items}, "Update the plan"), ev.tool_result("call_1", "")]


def test_the_cost_of_a_turn_is_what_the_session_cost_more() -> None:
    dialogue = prompting(Turn("hi", memory={"cost_usd": 7.0}))
    update(dialogue, {"sessionUpdate": "usage_update", "cost": {"amount": 0.25}})
    first = answer(dialogue, 3, {"stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 2}}).events
    assert (first[0], dialogue.memory) == (ev.usage(input_tokens=3, output_tokens=2, cost_usd=0.25), {"cost_usd": 0.25})
    dialogue.start(Turn("again", memory=dialogue.memory))
    update(dialogue, {"sessionUpdate": "usage_update", "cost": {"amount": 0.75}})
    assert answer(dialogue, 4, {"stopReason": "end_turn"}).events[0] == ev.usage(cost_usd=0.5)


def test_sessions_of_sub_agents_are_left_out() -> None:
    assert update(prompting(), text("inner"), session="s1-child") == []


def test_text_outside_a_turn_is_kept_for_the_owner() -> None:
    dialogue = prompting()
    answer(dialogue, 3, {"stopReason": "end_turn"})
    assert [(event.type, event.level) for event in update(dialogue, text("late"))] == [("raw", "internal")]


def test_an_agent_that_dies_in_mid_turn_closes_its_calls_and_fails() -> None:
    dialogue = prompting()
    call = {"toolCallId": "t", "kind": "execute", "title": "ls", "status": "in_progress"}
    update(dialogue, {"sessionUpdate": "tool_call", **call})
    types = [event.type for event in dialogue.finish(Exit(code=1))]
    assert types == ["tool_result", "error_detail", "done"]


@pytest.mark.parametrize(
    "line",
    [b"[]", b"not json", b"{}", b'{"method": 1}', b'{"method": "session/update"}', b'{"id": 99, "result": {}}', b'{"id": 3}'],
)
def test_odd_lines_never_raise(line: bytes) -> None:
    assert all(event.level == "internal" or event.type == "done" for event in prompting().feed(line).events)


def test_the_owner_gives_the_command_and_its_environment() -> None:
    launch = PROFILE.mode().launch
    assert launch is not None
    plan = Plan(executable="", home="/h", turn=Turn("hi"), command=("my-agent", "--acp"), env={"MY_KEY": "1"})
    started = launch(plan)
    assert (started.argv, dict(started.env), started.keep_stdin) == (("my-agent", "--acp"), {"MY_KEY": "1"}, True)
