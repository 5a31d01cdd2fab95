"""A turn that dies in the middle is begun again and goes on where it stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.gateway.turns.calls import (
    AT_ONCE,
    Call,
    calling,
    cancel,
    error_of,
    kill_processes_of,
    make_agent,
    of_type,
    speaks,
    state_of,
    turns_of,
    uses_tool,
)
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Frame, Json, serving, streamed_text, text_of

pytestmark = pytest.mark.usefixtures("database_url")

GOES_ON = "The work was interrupted and goes on."
SOON = {"turn_backoff_seconds": 0.01}
LATE = {"turn_backoff_seconds": 60}
TOOL = {"type": "tool_start", "call_id": "1", "tool": "shell", "input": {"command": "true"}}
DIES = ["exit", 3]
NEVER = ["wait", "never"]


async def kill_runtime(gateway: Client, call: Call) -> None:
    events = await gateway.events(call.task["contextId"])
    kill_processes_of({event["turn_id"] for event in events if event["turn_id"]})


def begun(events: list[Json]) -> list[Json]:
    """How each attempt began."""
    bodies = [event["body"] for event in of_type(events, "turn_started")]
    return [{name: value for name, value in body.items() if name != "turn"} for body in bodies]


def attempts(events: list[Json]) -> list[int]:
    return [body["attempt"] for body in begun(events)]


def waits_for_its_next_attempt(call: Call) -> bool:
    return any(GOES_ON in str(frame.data) for frame in call.frames)


async def streams_after_every_id(gateway: Client, agent: str, frames: list[Frame]) -> None:
    """What a reader gets who continues after any frame is what came after it."""
    task_id = frames[0].result["task"]["id"]
    for number, frame in enumerate(frames):
        if frame.id:
            rest = gateway.frames(agent, "SubscribeToTask", {"id": task_id}, {"Last-Event-ID": frame.id})
            assert [frame async for frame in rest] == frames[number + 1 :]


async def test_a_runtime_that_dies_in_a_tool_goes_on_and_is_not_given_its_prompt_again(tmp_path: Path) -> None:
    """[RESUME-1] [RESUME-2]"""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "parrot", "parrot")
            prompt = say({"type": "session", "id": "s"}, chunk("one "), TOOL, ["once", [NEVER]], ["asked"], DONE)
            async with calling(gateway, prompt, agent="parrot") as call:
                await call.until(uses_tool)
                await kill_runtime(gateway, call)
                await call.ended.wait()
            task = await gateway.get("parrot", call.task["id"])
            events = await gateway.events(call.task["contextId"])
            await streams_after_every_id(gateway, "parrot", call.frames)
    assert state_of(task) == "COMPLETED"
    assert begun(events) == [{"attempt": 1}, {"attempt": 2}]
    assert [event["body"]["is_error"] for event in of_type(events, "tool_result")] == [True, True]
    assert [event["body"]["text"] for event in of_type(events, "system")] == [GOES_ON]
    assert len(of_type(events, "done")) == 1
    assert call.text == "one one The work was interrupted. Go on where you stopped."
    assert text_of(task) == call.text


@pytest.mark.parametrize("first", [True, False], ids=["first turn", "later turn"])
async def test_the_text_of_a_prompt_that_is_given_again_replaces_what_was_said(tmp_path: Path, first: bool) -> None:
    """[RESUME-4] In the stream, in the task, and in the session's result."""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "parrot", "parrot")
            before = {} if first else {"contextId": (await gateway.send("parrot", say(chunk("0"), DONE)))["contextId"]}
            prompt = say(["once", [chunk("one "), chunk("two "), ["wait", "go"], DIES]], chunk("a "), chunk("b "), DONE)
            async with calling(gateway, prompt, agent="parrot", **before) as call:
                await call.until(lambda call: call.text == "one two ")
                (tmp_path / "sessions" / call.task["contextId"] / "work" / "go").touch()
                await call.ended.wait()
            task = await gateway.get("parrot", call.task["id"])
            events = await gateway.events(call.task["contextId"])
            result = (await gateway.http.get(f"{gateway.url}/v1/sessions/{call.task['contextId']}/result")).json()
            await streams_after_every_id(gateway, "parrot", call.frames)
    assert begun(events)[-2:] == [{"attempt": 1}, {"attempt": 2, "anew": True}]
    assert (call.text, text_of(task), result["text"]) == ("a b ", "a b ", "a b ")


async def test_a_runtime_that_dies_before_it_says_anything(tmp_path: Path) -> None:
    """[RESUME-1] Killed, it goes on; what ends by itself without a word could not be started."""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "parrot", "parrot")
            killed = await gateway.send("parrot", say(["once", [["kill"]]], chunk("a"), DONE))
            ended = await gateway.send("parrot", say(["once", [DIES]], chunk("a"), DONE))
            events = await gateway.events(killed["contextId"])
    assert (state_of(killed), text_of(killed), attempts(events)) == ("COMPLETED", "a", [1, 2])
    assert error_of(ended)["category"] == "startup_crash"


async def test_a_turn_that_dies_again_and_again_fails_in_the_end(tmp_path: Path) -> None:
    """[RESUME-3]"""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(30):
            task = await gateway.send("hello", "N=2 CRASH")
            events = await gateway.events(task["contextId"])
            session = await gateway.owner("sessions.show", id=task["contextId"])
    assert error_of(task)["category"] == "runtime_crash"
    assert attempts(events) == [1, 2, 3]
    assert len(of_type(events, "error_detail")) == 3
    assert len(of_type(events, "done")) == 1
    assert session["status"] == "failed"


async def test_an_agent_may_have_a_crash_end_its_turns(tmp_path: Path) -> None:
    """[RESUME-3]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=5) as gateway:
        with anyio.fail_after(30):
            await gateway.owner("agent.create", name="mine", runtime="rehearsal", limits={"turn_attempts": 1})
            task = await gateway.send("mine", "N=2 CRASH")
            events = await gateway.events(task["contextId"])
    assert state_of(task) == "FAILED"
    assert attempts(events) == [1]


@pytest.mark.parametrize("category", ["auth_error", "model_not_found", "rate_limit", "upstream_api_error", "out_of_memory"])
async def test_a_failure_that_is_no_crash_is_not_tried_again(tmp_path: Path, category: str) -> None:
    """[RESUME-3]"""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(30):
            task = await gateway.send("hello", f"N=1 FAIL={category}")
            events = await gateway.events(task["contextId"])
    assert error_of(task)["category"] == category
    assert attempts(events) == [1]


@pytest.mark.parametrize("what", ["cancel", "interrupt"])
async def test_a_turn_that_waits_for_its_next_attempt_is_stopped_at_once(tmp_path: Path, what: str) -> None:
    """[RESUME-5] It does not wait for the pause to end, and begins no more."""
    async with serving(tmp_path, RUNTIMES, **LATE) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=2 CRASH") as call:
                await call.until(waits_for_its_next_attempt)
                if what == "cancel":
                    await cancel(gateway, call.task["id"])
                else:
                    await gateway.engine.interrupt(call.task["contextId"])
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
            after = await gateway.send("hello", "N=1", contextId=call.task["contextId"])
    assert call.states[-1] == "CANCELED"
    assert attempts(events) == [1]
    assert state_of(after) == "COMPLETED"


async def test_a_session_whose_turn_waits_for_its_next_attempt_cannot_be_archived(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, **LATE) as gateway:
        with anyio.fail_after(20):
            async with calling(gateway, "N=2 CRASH") as call:
                await call.until(waits_for_its_next_attempt)
                url = f"{gateway.url}/v1/sessions/{call.task['contextId']}"
                shown = (await gateway.http.get(url)).json()
                refused = await gateway.http.post(f"{url}/archive")
                await cancel(gateway, call.task["id"])
            archived = await gateway.http.post(f"{url}/archive")
    assert shown["status"] == "running"
    assert (refused.status_code, archived.status_code) == (409, 200)


async def test_a_gateway_that_is_stopped_before_the_next_attempt_makes_it_after_its_start(tmp_path: Path) -> None:
    """[RESUME-1] It is no attempt that was never begun."""
    async with serving(tmp_path, RUNTIMES, **LATE, turn_attempts=2, drain_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                await make_agent(gateway, "parrot", "parrot")
                call = Call()
                prompt = say(["once", [chunk("one"), DIES]], chunk("two"), DONE)
                group.start_soon(call.run, gateway.stream("parrot", prompt))
                await call.until(waits_for_its_next_attempt)
                group.cancel_scope.cancel()
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in followed(gateway, "parrot", call)]
            events = await gateway.events(call.task["contextId"])
    assert ended(frames) == "COMPLETED"
    assert streamed_text(frames) == "two"
    assert attempts(events) == [1, 2]


def followed(gateway: Client, agent: str, call: Call) -> Any:
    """A call's stream from its beginning."""
    return gateway.frames(agent, "SubscribeToTask", {"id": call.task["id"]}, {"Last-Event-ID": "0"})


def ended(frames: list[Frame]) -> str:
    return state_of(frames[-1].result["statusUpdate"])


async def test_the_time_of_a_turn_is_that_of_all_its_attempts(tmp_path: Path) -> None:
    """[RESUME-6]"""
    async with serving(tmp_path, RUNTIMES, turn_backoff_seconds=0.2, stop_seconds=0.1, turn_attempts=20) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "hasty", "parrot", limits={"turn_seconds": 1})
            task = await gateway.send("hasty", say(chunk("a"), DIES))
            events = await gateway.events(task["contextId"])
    assert error_of(task)["category"] == "deadline_exceeded"
    assert 2 <= len(attempts(events)) <= 5


@pytest.mark.parametrize(
    ("limits", "acts"),
    [
        ({"tool_calls": 2}, [TOOL, DIES]),
        ({"output_bytes": 10}, [chunk("12345"), DIES]),
        ({"turn_tokens": 20}, [{"type": "usage", "input_tokens": 5, "output_tokens": 5}, DIES]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_the_limits_of_a_turn_are_those_of_all_its_attempts(tmp_path: Path, limits: Json, acts: list[Any]) -> None:
    """[RESUME-6] In the third there is nothing left."""
    async with serving(tmp_path, RUNTIMES, **SOON, turn_attempts=20) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "spare", "parrot", limits=limits)
            task = await gateway.send("spare", say(*acts))
            events = await gateway.events(task["contextId"])
    assert error_of(task)["category"] == "budget_exceeded"
    assert attempts(events) == [1, 2, 3]


async def test_a_turn_keeps_the_version_it_began_with(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, turn_backoff_seconds=0.5) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "mine", "parrot")
            async with calling(gateway, say(["once", [chunk("a"), DIES]], chunk("b"), DONE), agent="mine") as call:
                await call.until(waits_for_its_next_attempt)
                await gateway.owner("agent.update", name="mine", changes={"runtime": "rehearsal"})
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
    assert call.text == "b"
    notices = [event["body"]["text"] for event in of_type(events, "notice") if event["body"]["kind"] == "runtime"]
    assert notices == ["parrot, mode jsonl, agent version 1"] * 2


async def test_a_message_a_dead_attempt_was_given_and_never_took_is_given_to_the_next(tmp_path: Path) -> None:
    """[STEER-2] [RESUME-1]"""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            prompt = say(chunk("one "), ["once", [["hear"], DIES]], ["take"], DONE)
            async with calling(gateway, prompt, agent="parrot") as call:
                await call.until(speaks)
                await gateway.send("parrot", "two", taskId=call.task["id"], configuration=AT_ONCE)
                await call.ended.wait()
            turns = await turns_of(gateway, call.task["contextId"])
            events = await gateway.events(call.task["contextId"])
    assert call.text == "one two"
    assert [turn["yield_reason"] for turn in turns] == ["completed", "steered"]
    assert len(of_type(events, "steered")) == 1
    assert attempts(events) == [1, 2]


async def test_a_message_a_dead_attempt_had_taken_is_part_of_the_prompt_that_is_given_again(tmp_path: Path) -> None:
    """[STEER-2] [RESUME-1] It is not given beside it once more."""
    async with serving(tmp_path, RUNTIMES, **SOON) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "parrot", "parrot")
            prompt = say(chunk("one "), ["once", [["take"], NEVER]], ["asked"], DONE)
            async with calling(gateway, prompt, agent="parrot") as call:
                await call.until(speaks)
                await gateway.send("parrot", "two", taskId=call.task["id"], configuration=AT_ONCE)
                await call.until(lambda call: call.text == "one two")
                await kill_runtime(gateway, call)
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
    assert call.text.split() == ["one", "two"]
    assert begun(events) == [{"attempt": 1}, {"attempt": 2, "anew": True}]
    assert [event["body"]["kind"] for event in of_type(events, "notice")].count("given") == 1
    assert len(of_type(events, "steered")) == 1


async def test_a_turn_goes_on_after_the_gateway_was_stopped_and_its_journal_lost(tmp_path: Path) -> None:
    """[RESUME-1] The runtime is told what was said and done."""
    async with serving(tmp_path, RUNTIMES, drain_seconds=0) as gateway:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                call = Call()
                group.start_soon(call.run, gateway.stream("hello", "N=3 SLEEPTOOL=3"))
                await call.until(uses_tool)
                group.cancel_scope.cancel()
    shutil.rmtree(tmp_path / "sessions")
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(30):
            frames = [frame async for frame in followed(gateway, "hello", call)]
            events = await gateway.events(call.task["contextId"])
    assert ended(frames) == "COMPLETED"
    assert attempts(events) == [1, 2]
    assert {"journal", "primed"} <= {event["body"].get("kind") for event in of_type(events, "notice")}
