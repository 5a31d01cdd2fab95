"""The real two-way CLIs, kept between the turns of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.e2e.legs import LEGS, Leg
from tests.e2e.model import Model
from tests.e2e.stage import SECONDS, Played, Stage, processes_of
from tests.e2e.test_invisible import lines
from tests.support import Client, gateway_process

TURNS = ("SCN-text", "SCN-again", "SCN-tool")
TWO_WAY = [leg for leg in LEGS if leg.runtime != "gemini"]


@pytest.fixture(scope="module")
def warm(clis: Path, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    env = {"PATH": f"{clis}{os.pathsep}{os.environ['PATH']}", "SWITCHBOARD_WARM_SECONDS": "60"}
    with gateway_process(tmp_path_factory.mktemp("warm"), env) as gateway:
        yield Stage(model, gateway)


async def played(stage: Stage, client: Client, leg: Leg) -> list[Played]:
    turns: list[Played] = []
    for scenario in TURNS:
        more = {"contextId": turns[0].context_id} if turns else {}
        turns.append(await stage.say(client, leg.agent, scenario, **more))
    return turns


@pytest.mark.parametrize("leg", TWO_WAY, ids=lambda leg: leg.runtime)
async def test_a_session_whose_process_was_kept_goes_on_as_any_other(stage: Stage, warm: Stage, leg: Leg) -> None:
    """[WARM-1]"""
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            cold = await played(stage, client, leg)
        async with warm.client() as client:
            await client.owner(
                "agent.create", name=leg.agent, runtime=leg.runtime, model=leg.model, env=leg.env(warm.model.url)
            )
            turns = await played(warm, client, leg)
            living = processes_of(await warm.turn_of(client, turns[0]))
            notices = [event["body"]["kind"] for event in await client.events(turns[0].context_id) if event["type"] == "notice"]
    assert [lines(turn) for turn in turns] == [lines(turn) for turn in cold]
    assert living
    assert notices.count("warm") == len(TURNS) - 1
