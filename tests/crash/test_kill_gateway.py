"""The gateway dies in the middle of streams, by kill -9 and by SIGTERM, again and again on one data directory and either
database.

Proves that nothing was shown that is not stored [INV-1], that numbers have no gaps and no repeats [INV-2], that every
accepted task ends [INV-6], that text stays whole and in order [INV-8], that no process survives [TURN-4], and that a cut
stream continues exactly where it ended [A2A-3].

SWITCHBOARD_CRASH_ROUNDS raises the number of kills, SWITCHBOARD_CRASH_SEED plays a printed seed again.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import text

from gateway.db.engine import Database
from tests.crash.witness import AGENT, FINAL, Cut, calling, check, check_log, resumed, tasks, wait_for_deaths
from tests.support import Client, GatewayProcess, database_url, gateway_process

ROUNDS = int(os.environ.get("SWITCHBOARD_CRASH_ROUNDS", "5"))
LATEST_KILL = 1.0  # seconds after the calls
PROMPTS = ("N=400 D=2000", "N=150 D=2000 SLEEPTOOL=0.5", "N=400 D=2000 ORPHAN", "N=60 D=500")


async def make_agent(gateway: GatewayProcess) -> None:
    async with calling(gateway) as client:
        await client.owner("agent.create", name=AGENT, runtime="rehearsal")


def plan(rng: random.Random, contexts: list[str]) -> list[Cut]:
    """The calls of a round: new conversations, two that go on with one which was cut off before, one nobody waits for."""
    going_on = rng.choice(contexts) if contexts else None
    cuts = [Cut(prompt) for prompt in PROMPTS]
    return [*cuts, Cut("N=200 D=2000", going_on), Cut("N=50 D=1000", going_on, waits=False)]


async def play_and_kill(gateway: GatewayProcess, rng: random.Random, cuts: list[Cut]) -> None:
    async with calling(gateway) as client, anyio.create_task_group() as group:
        for cut in cuts:
            group.start_soon(cut.call, client)
        await anyio.sleep(rng.uniform(0, LATEST_KILL))
        gateway.kill()


async def check_round(client: Client, cuts: list[Cut]) -> None:
    async with anyio.create_task_group() as group:
        for cut in cuts:
            group.start_soon(check, client, cut)
    for task in [task async for task in tasks(client) if task["status"]["state"] not in FINAL]:
        with anyio.fail_after(60):  # accepted, but its client was never told
            await resumed(client, task["id"], "0")
    assert {task["status"]["state"] async for task in tasks(client)} <= FINAL


@pytest.mark.timeout(120 + 30 * ROUNDS)
@pytest.mark.usefixtures("database_url")
async def test_no_kill_loses_repeats_or_invents_anything(tmp_path: Path) -> None:
    seed = os.environ.get("SWITCHBOARD_CRASH_SEED") or str(random.randrange(10**9))
    print(f"SWITCHBOARD_CRASH_SEED={seed} SWITCHBOARD_CRASH_ROUNDS={ROUNDS}")
    rng = random.Random(seed)
    logs: dict[str, int] = {}  # session -> events it has
    with gateway_process(tmp_path) as gateway:
        await make_agent(gateway)
        for number in range(ROUNDS):
            cuts = await play_round(gateway, rng, logs)
            received = sum(len(cut.frames) for cut in cuts)
            print(f"round {number}: {received} frames, {sum(cut.accepted is not None for cut in cuts)} calls accepted")
        await check_all(gateway, logs)
    assert wait_for_deaths(tmp_path, 10) == []


async def play_round(gateway: GatewayProcess, rng: random.Random, logs: dict[str, int]) -> list[Cut]:
    cuts = plan(rng, sorted(logs))
    await play_and_kill(gateway, rng, cuts)
    assert wait_for_deaths(gateway.data_dir, 10) == []
    gateway.start()
    if rng.random() < 0.2:  # and once more, while it takes up what was waiting
        gateway.kill()
        gateway.start()
    async with calling(gateway) as client:
        await check_round(client, cuts)
        for context in {cut.context for cut in cuts} - {None}:
            logs[str(context)] = len(await client.events(str(context)))
    return cuts


async def check_all(gateway: GatewayProcess, logs: dict[str, int]) -> None:
    """No later crash has changed an earlier log."""
    async with calling(gateway) as client:
        for context, length in logs.items():
            events = await client.events(context)
            assert len(events) == length
            check_log(events)


async def test_a_gateway_that_is_asked_to_stop_ends_its_turns(tmp_path: Path) -> None:
    cuts = [Cut(prompt) for prompt in ("N=2000 D=5000", "N=3 SLEEPTOOL=60", "N=3 HANG", "N=2000 D=5000 ORPHAN")]
    with gateway_process(tmp_path, {"SWITCHBOARD_TURN_ATTEMPTS": "1"}) as gateway:
        await make_agent(gateway)
        async with calling(gateway) as client, anyio.create_task_group() as group:
            for cut in cuts:
                group.start_soon(cut.call, client)
            with anyio.fail_after(20):
                for cut in cuts:
                    await cut.speaking.wait()
            await ask_to_stop(gateway, seconds=15)
        assert wait_for_deaths(tmp_path, 0) == []
        assert await stored_states(tmp_path) == {("ended", "failed")}
        gateway.start()
        async with calling(gateway) as client:
            await check_round(client, cuts)


async def ask_to_stop(gateway: GatewayProcess, seconds: float) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    assert await anyio.to_thread.run_sync(gateway.process.wait, seconds) in (0, -signal.SIGTERM)  # uvicorn ends by it
    gateway.process = None


async def stored_states(data_dir: Path) -> set[tuple[str, str]]:
    """(state of the turn, state of its task), before any gateway could clear up."""
    query = text("SELECT turn.state, task.state FROM turn JOIN task ON task.id = turn.task_id")
    database = Database(database_url(data_dir))
    await database.start()
    found = await database.read(lambda conn: {(row[0], row[1]) for row in conn.execute(query)})
    await database.aclose()
    return found
