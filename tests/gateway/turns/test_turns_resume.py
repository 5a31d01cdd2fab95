"""A turn that dies in the middle is begun again and goes on where it stopped."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import anyio
import pytest

from tests.gateway.turns.calls import Call, calling, error_of, of_type, processes_of, speaks, state_of, uses_tool
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import Client, Json, serving, streamed_text

pytestmark = pytest.mark.usefixtures("database_url")

GOES_ON = "The work was interrupted and goes on."


async def kill_runtime(gateway: Client, call: Call) -> None:
    events = await gateway.events(call.task["contextId"])
    for process in processes_of({event["turn_id"] for event in events if event["turn_id"]}):
        process.send_signal(signal.SIGKILL)


def attempts(events: list[Json]) -> list[int]:
    return [event["body"]["attempt"] for event in of_type(events, "turn_started")]


async def test_a_runtime_that_dies_in_a_tool_goes_on_and_is_not_given_its_prompt_again(tmp_path: Path) -> None:
    """[RESUME-1] [RESUME-2]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(30):
            async with calling(gateway, "N=3 SLEEPTOOL=1") as call:
                await call.until(uses_tool)
                await kill_runtime(gateway, call)
                await call.ended.wait()
            task = await gateway.get("hello", call.task["id"])
            events = await gateway.events(call.task["contextId"])
    assert state_of(task) == "COMPLETED"
    assert attempts(events) == [1, 2]
    assert [event["body"]["is_error"] for event in of_type(events, "tool_result")] == [True, False]
    assert [event["body"]["text"] for event in of_type(events, "system")] == [GOES_ON]
    assert len(of_type(events, "done")) == 1
    assert call.text == "word0 word1 word2 word0 word1 word2 The command said: rehearsal\n"
    assert streamed_text(call.frames) == call.text


async def test_a_runtime_that_dies_while_it_only_speaks_is_given_its_prompt_again(tmp_path: Path) -> None:
    """[RESUME-1]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(30):
            await gateway.send("hello", "N=1")
            async with calling(gateway, "N=400 D=5000") as call:
                await call.until(speaks)
                await kill_runtime(gateway, call)
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
    assert attempts(events) == [1, 2]
    assert call.text.count("word0 ") == 2
    assert call.text.endswith("".join(f"word{number} " for number in range(400)))


async def test_a_turn_that_dies_again_and_again_fails_in_the_end(tmp_path: Path) -> None:
    """[RESUME-3]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(30):
            task = await gateway.send("hello", "N=2 CRASH")
            events = await gateway.events(task["contextId"])
    assert error_of(task)["category"] == "runtime_crash"
    assert attempts(events) == [1, 2]
    assert len(of_type(events, "error_detail")) == 2
    assert len(of_type(events, "done")) == 1


async def test_an_agent_may_have_a_crash_end_its_turns(tmp_path: Path) -> None:
    """[RESUME-3]"""
    async with serving(tmp_path, RUNTIMES, turn_attempts=5) as gateway:
        with anyio.fail_after(30):
            await gateway.owner("agent.create", name="mine", runtime="rehearsal", limits={"turn_attempts": 1})
            task = await gateway.send("mine", "N=2 CRASH")
            events = await gateway.events(task["contextId"])
    assert state_of(task) == "FAILED"
    assert attempts(events) == [1]


async def test_a_turn_that_waits_for_its_next_attempt_can_be_canceled(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES, turn_attempts=20) as gateway:
        with anyio.fail_after(30):
            async with calling(gateway, "N=2 CRASH") as call:
                await call.until(lambda call: any("interrupted" in str(frame.data) for frame in call.frames))
                answer = await gateway.rpc("hello", "CancelTask", {"id": call.task["id"]})
                await call.ended.wait()
    assert state_of(answer["result"]) == "CANCELED"


async def test_a_turn_goes_on_after_the_gateway_was_stopped_and_its_journal_lost(tmp_path: Path) -> None:
    """[RESUME-1] The runtime is told what was said and done."""
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                call = Call()
                group.start_soon(call.run, gateway.stream("hello", "N=3 SLEEPTOOL=4"))
                await call.until(uses_tool)
                group.cancel_scope.cancel()
    shutil.rmtree(tmp_path / "sessions")
    async with serving(tmp_path, RUNTIMES, turn_attempts=2) as gateway:
        with anyio.fail_after(30):
            follow = gateway.frames("hello", "SubscribeToTask", {"id": call.task["id"]}, {"Last-Event-ID": "0"})
            frames = [frame async for frame in follow]
            events = await gateway.events(call.task["contextId"])
    assert frames[-1].result["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert attempts(events) == [1, 2]
    assert {"journal", "primed"} <= {event["body"].get("kind") for event in of_type(events, "notice")}
