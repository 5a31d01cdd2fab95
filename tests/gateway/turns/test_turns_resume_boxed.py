"""A turn in a sandbox or in a container that dies goes on, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient

from tests import needs
from tests.gateway.turns.calls import Call, calling, kill_processes_of, make_agent, of_type, uses_tool
from tests.gateway.turns.parrot import RUNTIMES
from tests.gateway.turns.test_turns_contained import PLAYS, SECONDS
from tests.support import Client, serving


def kill_processes(turn: str) -> None:
    kill_processes_of({turn})


def kill_container(turn: str) -> None:
    client = DockerClient.from_env()
    try:
        for container in client.containers.list(filters={"label": f"switchboard.turn={turn}"}):
            container.kill()
    finally:
        client.close()


async def turn_of(gateway: Client, call: Call) -> str:
    (started,) = of_type(await gateway.events(call.task["contextId"]), "turn_started")
    return str(started["body"]["turn"])


@pytest.mark.parametrize(("placement", "kill"), [("sandboxed", kill_processes), ("docker", kill_container)])
async def test_a_turn_that_is_killed_in_its_box_goes_on(tmp_path: Path, placement: str, kill: Callable[[str], None]) -> None:
    """[RESUME-1] In the same journal: it knows what it was asked."""
    if placement == "docker":
        image, runtimes = needs.an_engine(), PLAYS
    else:
        needs.a_sandbox()
        image, runtimes = "none", RUNTIMES
    async with serving(tmp_path, runtimes, agent_image=image, container_network="none", turn_backoff_seconds=0.01) as gateway:
        with anyio.fail_after(SECONDS):
            await make_agent(gateway, "boxed", "rehearsal", placement=placement)
            async with calling(gateway, "N=2 SLEEPTOOL=3", agent="boxed") as call:
                await call.until(uses_tool)
                await anyio.to_thread.run_sync(kill, await turn_of(gateway, call))
                await call.ended.wait()
            events = await gateway.events(call.task["contextId"])
    assert call.states[-1] == "COMPLETED"
    assert [event["body"]["attempt"] for event in of_type(events, "turn_started")] == [1, 2]
    assert call.text == "word0 word1 word0 word1 The command said: rehearsal\n"
