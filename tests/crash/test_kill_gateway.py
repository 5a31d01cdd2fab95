"""The gateway dies in the middle of streams, by kill -9 and by SIGTERM, a few times; `make crash` does it more often.

Proves that nothing was shown that is not stored [INV-1], that numbers have no gaps and no repeats [INV-2], that every
accepted task ends [INV-6], that text stays whole and in order [INV-8], that no process survives [TURN-4], and that a cut
stream continues exactly where it ended [A2A-3].
"""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import text

from gateway.db.engine import Database
from tests.crash.found import Found
from tests.crash.kills import births, kill
from tests.crash.seeds import seeded
from tests.crash.witness import AGENT, FINAL, Cut, calling, check, resumed, tasks, wait_for_deaths
from tests.postgres import PostgresServer
from tests.support import Born, Client, GatewayProcess, database_url, gateway_process


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "together"])
async def test_no_kill_loses_repeats_or_invents_anything(tmp_path: Path, count: int, born: Born) -> None:
    await kill(tmp_path, Found("kills", 3), seeded(), count, {}, born)


async def test_a_start_that_is_killed_leaves_nothing_the_next_one_stumbles_over(tmp_path: Path, born: Born) -> None:
    """[DB-1]"""
    await births(tmp_path, Found("births", 2), seeded(), lambda home: f"sqlite:///{home / 'new.db'}", born)


async def test_the_same_on_postgresql(tmp_path: Path, postgres: PostgresServer, born: Born) -> None:
    """[DB-1]"""
    await births(tmp_path, Found("births", 2), seeded(), lambda _: postgres.url(postgres.create("template1")), born)


async def make_agent(gateway: GatewayProcess) -> None:
    async with calling(gateway) as client:
        await client.owner("agent.create", name=AGENT, runtime="rehearsal")


async def check_round(client: Client, cuts: list[Cut]) -> None:
    async with anyio.create_task_group() as group:
        for cut in cuts:
            group.start_soon(check, client, cut)
    for task in [task async for task in tasks(client) if task["status"]["state"] not in FINAL]:
        with anyio.fail_after(60):  # accepted, but its client was never told
            await resumed(client, task["id"], "0")
    assert {task["status"]["state"] async for task in tasks(client)} <= FINAL


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
