"""The same turns in containers: what callers read is the same, nothing is left of them, and their end is told."""

from __future__ import annotations

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import TURN
from tests import needs
from tests.e2e.legs import Leg
from tests.e2e.stage import SECONDS, Stage, unique
from tests.e2e.test_invisible import boxed_scenarios, lines


@pytest.fixture(autouse=True, scope="module")
def _image() -> None:
    needs.an_engine()


def containers_of(turn: str) -> list[str]:
    client = DockerClient.from_env()
    try:
        return [one["Id"] for one in client.api.containers(all=True, filters={"label": f"{TURN}={turn}"})]
    finally:
        client.close()


@pytest.mark.parametrize("scenario", boxed_scenarios())
async def test_a_container_shows_to_no_caller(stage: Stage, leg: Leg, scenario: str) -> None:
    """[BOX-3]"""
    outside = await stage.play(leg, scenario)
    async with stage.client() as client:
        inside = await stage.say(client, leg.contained, scenario)
    assert lines(inside) == lines(outside)


async def test_a_conversation_goes_on_in_another_container(stage: Stage, leg: Leg) -> None:
    async with stage.client() as client:
        first = await stage.say(client, leg.contained, unique("SCN-text"))
        second = await stage.say(client, leg.contained, unique("SCN-again"), contextId=first.context_id)
    assert second.text != "We have never met."


async def test_cancel_leaves_nothing_of_a_container(stage: Stage, leg: Leg) -> None:
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            played = await stage.until(client, leg.contained, "SCN-long-tool", lambda so_far: "tool_start" in so_far.kinds)
            turn = await stage.turn_of(client, played)
            assert len(containers_of(turn)) == 1
            answer = await client.rpc(leg.contained, "CancelTask", {"id": played.task_id})
            assert containers_of(turn) == []
    assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"
