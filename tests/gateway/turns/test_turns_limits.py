"""Limits: a turn that takes too long, or is silent for too long, ends as deadline_exceeded. [TURN-3]"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.gateway.turns.calls import calling, error_of, make_agent, of_type, processes_of, state_of, tools, turns_of
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import serving, text_of

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
