"""Limits: a turn that takes too long, or is silent for too long, ends as deadline_exceeded [TURN-3]; one that uses too
much is stopped as soon as the stream shows it [LIMIT-1]."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.events import NEUTRAL
from adapters.profile import Launch, Plan
from adapters.runtimes.acp.profile import PROFILE as ACP
from gateway.errors import InvalidParams
from gateway.turns.limits import of_session
from gateway.turns.spec import Inbound
from tests.gateway.turns.calls import calling, error_of, make_agent, of_type, processes_of, state_of, tools, turns_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Json, serving, text_of

SILENT = {"stall_seconds": 0.4, "stop_seconds": 0.1}
LONG = {"turn_seconds": 0.6, "stop_seconds": 0.1}


@pytest.mark.parametrize(("limits", "prompt"), [(SILENT, "N=2 HANG"), (LONG, "N=2 HANG"), (LONG, "N=100000 D=5000")])
async def test_a_turn_over_its_limit_fails_with_what_it_said_so_far(
    tmp_path: Path, limits: dict[str, float], prompt: str
) -> None:
    async with serving(tmp_path, RUNTIMES, **limits) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", prompt)
            (turn,) = await turns_of(gateway, task["contextId"])
            assert processes_of({turn["id"]}) == []
    assert state_of(task) == "FAILED"
    assert error_of(task)["category"] == "deadline_exceeded"
    assert turn["yield_reason"] == "deadline_exceeded"
    assert text_of(task).startswith("word0 word1 ")


async def test_a_tool_that_is_silent_for_too_long_is_closed_with_its_turn(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, **SILENT) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "SLEEPTOOL=600") as call:
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
    assert [data["type"] for data in tools(call.frames)] == ["tool_start", "tool_result"]
    assert call.states[-1] == "FAILED"
    assert "no output for too long" in of_type(events, "error_detail")[0]["body"]["text"]


async def test_whoever_says_something_now_and_then_does_not_stall(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stall_seconds=1) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=12 D=100000")
    assert state_of(task) == "COMPLETED"


async def test_an_agents_own_limits_come_before_the_gateways(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "hasty", "rehearsal", limits={"turn_seconds": 0.4})
            task = await gateway.send("hasty", "N=1 HANG")
    assert error_of(task)["category"] == "deadline_exceeded"


SLEEP = ["sleep"]
USAGE = {"type": "usage", "input_tokens": 6, "output_tokens": 5, "cost_usd": 0.02}


def tool(number: int) -> list[Json]:
    id = str(number)
    start = {"type": "tool_start", "call_id": id, "tool": "shell", "input": {"command": "true"}}
    return [start, {"type": "tool_result", "call_id": id, "output": ""}]


async def ended(gateway: Client, prompt: str, **limits: Any) -> tuple[Json, Json, list[Json]]:
    """The task of an agent with these limits, its turn, and the log."""
    await make_agent(gateway, "bound", "parrot", limits=limits)
    task = await gateway.send("bound", prompt)
    (turn,) = await turns_of(gateway, task["contextId"])
    assert state_of(task) == "COMPLETED" or processes_of({turn["id"]}) == []
    return task, turn, await gateway.events(task["contextId"])


def told_to_the_owner(events: list[Json]) -> list[str]:
    return [event["body"]["text"] for event in of_type(events, "error_detail")]


@pytest.mark.parametrize(
    ("limits", "lines", "text", "why"),
    [
        ({"output_bytes": 5}, [chunk("aé"), chunk("éé"), SLEEP], "aéé", "more than 5 bytes were told (limit output_bytes)"),
        ({"output_bytes": 3}, ["x", chunk("abcd"), DONE], "abc", "more than 3 bytes were told (limit output_bytes)"),
        ({"turn_tokens": 20}, [chunk("a"), USAGE, USAGE, SLEEP], "a", "more than 20 tokens were used (limit turn_tokens)"),
        (
            {"turn_cost_usd": 0.03},
            [chunk("a"), USAGE, USAGE, SLEEP],
            "a",
            "more than 0.03 dollars were spent (limit turn_cost_usd)",
        ),
    ],
)
async def test_a_turn_that_uses_too_much_is_stopped_when_the_stream_shows_it(
    tmp_path: Path, limits: Json, lines: list[Any], text: str, why: str
) -> None:
    """[LIMIT-1]"""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        with anyio.fail_after(20):
            task, turn, events = await ended(gateway, say(*lines), **limits)
    error = {"category": "budget_exceeded", "retryable": False, "message": NEUTRAL["budget_exceeded"]}
    assert (state_of(task), text_of(task)) == ("FAILED", text)
    assert {**error_of(task), "incident": ""} == {**error, "incident": ""}
    assert turn["yield_reason"] == "budget_exceeded"
    assert told_to_the_owner(events) == [why]


async def test_one_tool_more_than_allowed_is_told_closed_and_stopped(tmp_path: Path) -> None:
    """[LIMIT-1]"""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        with anyio.fail_after(20):
            lines = [*tool(1), *tool(2), tool(3)[0], SLEEP]
            _, turn, events = await ended(gateway, say(*lines), tool_calls=2)
    assert turn["yield_reason"] == "budget_exceeded"
    assert [event["type"] for event in of_type(events, "tool_start", "tool_result")] == ["tool_start", "tool_result"] * 3
    assert [event["body"]["is_error"] for event in of_type(events, "tool_result")] == [False, False, True]
    assert told_to_the_owner(events) == ["more than 2 tools were used (limit tool_calls)"]


async def test_a_turn_within_its_limits_is_not_touched(tmp_path: Path) -> None:
    limits = {"output_bytes": 4, "tool_calls": 1, "turn_tokens": 11, "turn_cost_usd": 0.02, "session_turns": 1}
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task, _, _ = await ended(gateway, say(chunk("ab"), *tool(1), USAGE, chunk("cd"), DONE), **limits)
    assert (state_of(task), text_of(task)) == ("COMPLETED", "abcd")


@pytest.mark.parametrize(
    ("limits", "reason", "why"),
    [
        ({"session_turns": 2}, "max_turns", "the session has had its 2 turns (limit session_turns)"),
        ({"session_tokens": 22}, "budget_exceeded", "more than 22 tokens were used (limit session_tokens)"),
        ({"session_cost_usd": 0.04}, "budget_exceeded", "more than 0.04 dollars were spent (limit session_cost_usd)"),
    ],
)
async def test_a_session_that_has_used_what_it_may_begins_no_turn(tmp_path: Path, limits: Json, reason: str, why: str) -> None:
    """[LIMIT-2]"""
    prompt = say(chunk("a"), USAGE, DONE)
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task, _, _ = await ended(gateway, prompt, **limits)
            second = await gateway.send("bound", prompt, contextId=task["contextId"])
            third = await gateway.send("bound", prompt, contextId=task["contextId"])
            turns = await turns_of(gateway, task["contextId"])
            events = await gateway.events(task["contextId"])
    assert [state_of(one) for one in (task, second, third)] == ["COMPLETED", "COMPLETED", "FAILED"]
    assert [turn["yield_reason"] for turn in turns] == ["completed", "completed", reason]
    assert told_to_the_owner(events) == [why]
    assert "artifacts" not in third


async def test_the_stricter_of_an_agents_and_a_sessions_limits_holds(tmp_path: Path) -> None:
    """[LIMIT-2]"""
    async with serving(tmp_path, RUNTIMES, stop_seconds=0.1) as gateway:
        with anyio.fail_after(20):
            task, _, _ = await ended(gateway, say(chunk("abcdef"), DONE), output_bytes=4)
            page = await gateway.owner("sessions.list")
            assert page["sessions"][0]["id"] == task["contextId"]
            texts = [await text_within(gateway, "bound", output_bytes=size) for size in (2, 9)]
    assert (text_of(task), texts) == ("abcd", ["ab", "abcd"])


async def text_within(gateway: Client, agent: str, **limits: Any) -> str:
    """What an agent says in a session with limits of its own, as the session API makes them."""
    face = await gateway.owner("agent.show", name=agent)
    agent_id = await gateway.engine.log.database.read(
        lambda conn: conn.exec_driver_sql("SELECT id FROM agent WHERE name = 'bound'").scalar_one()
    )
    new = Inbound(({"text": say(chunk("abcdef"), DONE)},), limits=of_session(limits))
    accepted = await gateway.engine.accept(agent_id, face["version"], "anonymous", new)
    async for _ in gateway.frames(agent, "SubscribeToTask", {"id": accepted.task_id}):
        pass
    return text_of(await gateway.get(agent, accepted.task_id))


@pytest.mark.parametrize(
    "given", [{"tool_calls": 0}, {"tool_calls": 1.5}, {"tool_calls": True}, {"tool_cals": 1}, {"turn_cost_usd": float("nan")}]
)
def test_limits_that_make_no_sense_are_refused_with_what_to_do(given: Json) -> None:
    with pytest.raises(InvalidParams) as refused:
        of_session(given)
    assert next(iter(given)) in refused.value.message
    assert refused.value.hint


ASKING = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    answers = {"initialize": {}, "session/new": {"sessionId": "s"}}
    if message.get("method") in answers:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answers[message["method"]]}), flush=True)
    if message.get("method") == "session/prompt":
        option = {"optionId": "yes", "kind": "allow_once"}
        asked = {"sessionId": "s", "toolCall": {"toolCallId": "1", "title": "Write notes"}, "options": [option]}
        print(json.dumps({"jsonrpc": "2.0", "id": 9, "method": "session/request_permission", "params": asked}), flush=True)
"""


def ask(plan: Plan) -> Launch:
    return Launch(argv=(sys.executable, "-c", ASKING), keep_stdin=True)


async def test_the_owner_is_told_what_a_silent_runtime_seemed_to_wait_for(tmp_path: Path) -> None:
    """[LIMIT-3]"""
    asking = replace(ACP, name="asking", takes_command=False, modes={"acp": replace(ACP.modes["acp"], launch=ask)})
    async with serving(tmp_path, {**RUNTIMES, "asking": asking}, **SILENT) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "asks", "asking")
            tasks = [
                await gateway.send("asks", "Hello"),
                await gateway.send("hello", "SLEEPTOOL=600"),
                await gateway.send("hello", "N=1 HANG"),
            ]
            details = [told_to_the_owner(await gateway.events(task["contextId"]))[0].split("\n")[0] for task in tasks]
    assert {error_of(task)["category"] for task in tasks} == {"deadline_exceeded"}
    assert [detail.partition(" s)")[2] for detail in details] == [
        ": it waits for a permission or an answer (Write notes)",
        " while a tool runs (shell)",
        "",
    ]


async def test_a_runtime_that_is_gone_has_crashed_at_once_though_its_child_holds_its_output(tmp_path: Path) -> None:
    """[LIMIT-3] It is no silence: nobody is left who could say anything."""
    async with serving(tmp_path, RUNTIMES, stall_seconds=600, turn_attempts=1) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=2 ORPHAN CRASH")
            details = told_to_the_owner(await gateway.events(task["contextId"]))
    assert error_of(task)["category"] == "runtime_crash"
    assert details[0].split("\n")[0] == "the process ended without a result (exit code 3)"
