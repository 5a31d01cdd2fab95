"""kill -9 of what serves: while it works, while it starts, while it migrates, while it is asked to stop.

`alone`: one gateway, of whose turns no process may be left when it comes back. `together`: three, of which one at a time
is killed while the others go on. `births`: new databases, on which the first start is killed, again and again.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from tests.crash.callers import Caller, check_all
from tests.crash.found import Found
from tests.crash.gateways import Gateways, below, gateways, left_of
from tests.crash.witness import turns_processes, wait_for_deaths
from tests.support import Born, GatewayProcess, python

CALLERS = 4
LATEST_KILL = 0.5  # seconds after a gateway answers, or has done something
START = 0.4  # seconds a start takes, about
DEATH = 20.0  # seconds for the processes of a killed gateway's turns to be gone
HOWS = ("working", "at once", "starting", "stopping")
ODDS = (60, 10, 15, 15)


async def kill(folder: Path, found: Found, rng: random.Random, count: int, env: Mapping[str, str], born: Born = python) -> None:
    """`found.rounds` kills of one of `count` gateways under load; then nothing is lost, doubled, out of order or stuck."""
    logs: dict[str, tuple[int, str]] = {}
    enough = anyio.Event()
    async with gateways(folder, rng, count, env, born) as all:
        callers = [Caller(all, random.Random(rng.random()), found, logs) for _ in range(CALLERS)]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.work, enough)
            while found.next():
                await kill_one(all, rng.choice(all.all), rng, found)
            enough.set()
        await check_all(callers[0])
    with found.looking_at("processes at the end"):
        assert await anyio.to_thread.run_sync(wait_for_deaths, folder, DEATH) == []


async def kill_one(all: Gateways, victim: GatewayProcess, rng: random.Random, found: Found) -> None:
    how = rng.choices(HOWS, ODDS)[0]
    if how == "working":
        await all.work(rng.randrange(8))
        await anyio.sleep(rng.uniform(0, LATEST_KILL))
    elif how == "stopping":
        await anyio.sleep(rng.uniform(0, LATEST_KILL / 2))
        victim.process.send_signal(signal.SIGTERM)
        await anyio.sleep(rng.uniform(0, LATEST_KILL))
    children = below(victim)
    await all.kill(victim)
    found.counts[f"killed {how}"] += 1
    if how == "starting":
        await anyio.to_thread.run_sync(victim.spawn)
        await anyio.sleep(rng.uniform(0, START))
        children += below(victim)
        await all.kill(victim)
        found.counts["more kills"] += 1
    with found.looking_at(f"processes of a gateway killed {how}"):
        assert await anyio.to_thread.run_sync(left_of, children, DEATH) == []
        if not all.clients:
            assert await anyio.to_thread.run_sync(wait_for_deaths, victim.data_dir, DEATH) == []
    await all.start(victim)


async def births(folder: Path, found: Found, rng: random.Random, database: Callable[[Path], str], born: Born = python) -> None:
    """New databases, none of which has a table yet: `database` makes one and tells its URL."""
    while found.next():
        home = folder / f"birth{found.done}"
        home.mkdir()
        newborn = GatewayProcess(home, {"SWITCHBOARD_DATABASE_URL": database(home)}, born=born)
        for _ in range(rng.randrange(1, 4)):
            await anyio.to_thread.run_sync(newborn.spawn)
            await anyio.sleep(rng.uniform(0, 1.5 * START))
            newborn.kill()
            found.counts["kills"] += 1
        with found.looking_at("first call after a start that was killed"), anyio.fail_after(60):
            await anyio.to_thread.run_sync(newborn.start)
            client = newborn.client()
            task = await client.send("hello", "N=3")
            await client.http.aclose()
            assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        newborn.kill()
        assert turns_processes(home) == []
