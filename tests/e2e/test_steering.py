"""Messages to a turn that runs, and interrupts, on all four CLIs: one difference only, whether the turn takes the message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from adapters.registration import profiles
from gateway.agents import Agents
from gateway.db.engine import Database
from gateway.deliver.guard import Guard
from gateway.egress.gate import Gates
from gateway.files.store import Disk
from gateway.log.store import Log
from gateway.owner.border import load_secrets
from gateway.settings import Settings
from gateway.turns.engine import Engine
from tests.e2e.legs import Leg
from tests.e2e.stage import SECONDS, Played, Stage, processes_of
from tests.e2e.test_stopping import until_its_commands_run
from tests.support import Client, Json, text_of

AT_ONCE = {"returnImmediately": True}


def uses_tool(played: Played) -> bool:
    return "tool_start" in played.kinds


@asynccontextmanager
async def another_engine(stage: Stage) -> AsyncIterator[Engine]:
    """Beside the gateway's process, on its database."""
    settings = Settings(data_dir=stage.gateway.data_dir)
    database = Database(settings.database)
    await database.start()
    spec, store, gates = Agents(database, load_secrets(settings)).spec, Disk(settings.files_dir), Gates(Guard())
    yield Engine(Log(database), settings, profiles(), spec, store, gates)
    await database.aclose()


async def add(client: Client, leg: Leg, played: Played) -> None:
    """Send a message to the running turn, and wait until its runtime has it, where it takes any."""
    await client.send(leg.agent, "SCN-added", taskId=played.task_id, configuration=AT_ONCE)
    while leg.steers and "given" not in [event["body"].get("kind") for event in await client.events(played.context_id)]:
        await client.http.get(f"{client.url}/health")


async def ended(client: Client, leg: Leg, played: Played) -> tuple[Json, list[str]]:
    """The task once it has ended, and how its turns did."""
    async for _ in client.frames(leg.agent, "SubscribeToTask", {"id": played.task_id}):
        pass
    turns = (await client.owner("sessions.show", id=played.context_id))["turns"]
    return await client.get(leg.agent, played.task_id), [turn["yield_reason"] for turn in turns]


async def test_a_message_joins_the_running_turn_or_is_the_tasks_next_one(stage: Stage, leg: Leg) -> None:
    """[STEER-1]"""
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            played = await stage.until(client, leg.agent, "SCN-hold", uses_tool)
            await add(client, leg, played)
            (stage.workspace(played.context_id) / "go").touch()
            task, turns = await ended(client, leg, played)
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [message["parts"][0]["text"] for message in task["history"]] == ["SCN-hold", "SCN-added"]
    assert turns == ["completed", "steered" if leg.steers else "completed"]
    # With one that steers it is the runtime's choice whether its model is given the message together with the result.
    assert text_of(task).replace("The tool has run.", "") == "One moment.I heard you."
    assert leg.steers or "The tool has run." in text_of(task)


async def test_an_interrupt_ends_the_turn_with_its_commands_and_the_message_that_waits_is_next(stage: Stage, leg: Leg) -> None:
    """[STEER-4] [STEER-6]"""
    with anyio.fail_after(SECONDS):
        async with stage.client() as client, another_engine(stage) as engine:
            played = await stage.until(client, leg.agent, "SCN-long-tool", uses_tool)
            turn = await stage.turn_of(client, played)
            await until_its_commands_run(turn)
            await add(client, leg, played)
            assert await engine.interrupt(played.context_id) == turn
            assert processes_of(turn) == []
            task, turns = await ended(client, leg, played)
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert (text_of(task), turns) == ("This takes a while.I heard you.", ["canceled", "completed"])
