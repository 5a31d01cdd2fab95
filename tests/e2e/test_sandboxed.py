"""The same turns inside the sandbox: what callers read is the same, and nothing is left of it."""

from __future__ import annotations

import anyio
import pytest

from tests import needs
from tests.e2e.legs import Leg
from tests.e2e.stage import SECONDS, Stage, processes_of
from tests.e2e.test_invisible import boxed_scenarios, lines


@pytest.fixture(autouse=True, scope="module")
def _sandbox() -> None:
    needs.a_sandbox()


@pytest.mark.parametrize("scenario", boxed_scenarios())
async def test_a_sandbox_shows_to_no_caller(stage: Stage, leg: Leg, scenario: str) -> None:
    """[SBX-2]"""
    outside = await stage.play(leg, scenario)
    async with stage.client() as client:
        inside = await stage.say(client, leg.boxed, scenario)
    assert lines(inside) == lines(outside)


async def test_cancel_leaves_nothing_of_a_sandbox(stage: Stage, leg: Leg) -> None:
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            played = await stage.until(client, leg.boxed, "SCN-long-tool", lambda so_far: "tool_start" in so_far.kinds)
            turn = await stage.turn_of(client, played)
            assert processes_of(turn)
            answer = await client.rpc(leg.boxed, "CancelTask", {"id": played.task_id})
            assert processes_of(turn) == []
    assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"
