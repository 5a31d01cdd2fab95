"""Two workers of which one is killed or stopped with a turn in its hands: how soon the other goes on with it.

What the stopped one still had to say, when it wakes up again, is refused.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from tests.crash.found import Found
from tests.crash.gateways import left_of
from tests.crash.witness import check_log, check_turn
from tests.support import Born, Client, GatewayProcess, WorkerProcess, gateway_process, python

LEASE = 5.0  # above the time after which PostgreSQL throws out who stands still in a transaction
PROMPTS = ("N=20 SLEEPTOOL=600", "N=100000 D=2000", "N=5 ORPHAN SLEEPTOOL=600", "N=50 D=100 HANG")
AGENT = "mine"
PATIENCE = 25.0  # seconds on a machine that does much else
AFTER_KILL, AFTER_STOP = "go on after a kill", "go on after a stop"
BOUNDS = {AFTER_KILL: 1.0, AFTER_STOP: LEASE + 2.0}  # seconds, for half of them


async def take_over(folder: Path, found: Found, rng: random.Random, env: Mapping[str, str], born: Born = python) -> None:
    """`found.rounds` times, kill and stop by turns; `found.seconds` tells how long it took until the next attempt began."""
    sqlite = "SWITCHBOARD_DATABASE_URL" not in {**os.environ, **env}
    env = {**env, "SWITCHBOARD_LEASE_SECONDS": str(LEASE), "SWITCHBOARD_TURN_ATTEMPTS": "3"}
    with gateway_process(folder, {**env, "SWITCHBOARD_WORKER": "false"}, born) as gateway:
        async with calling(gateway) as client:
            with two_workers(folder, env, born) as workers:
                while found.next():
                    how = signal.SIGSTOP if found.done % 2 == 0 else signal.SIGKILL
                    with found.looking_at(f"a worker gets {how.name}"), anyio.fail_after(180):
                        await one(client, workers, how, sqlite, rng, found)
                    await anyio.to_thread.run_sync(renew, workers, workers[0])
                    await anyio.to_thread.run_sync(renew, workers, workers[0])


async def one(
    client: Client, workers: list[WorkerProcess], how: signal.Signals, sqlite: bool, rng: random.Random, found: Found
) -> None:
    prompt = rng.choice(PROMPTS)
    task = await client.send(AGENT, prompt, configuration={"returnImmediately": True})
    await until_begun(client, task["contextId"], 1)
    victim = await holder(workers)
    await anyio.sleep(rng.uniform(0, 0.3))
    below = psutil.Process(victim.process.pid).children(recursive=True)
    struck = time.time()
    victim.process.send_signal(how)
    begun = 0.0
    with anyio.move_on_after(LEASE + PATIENCE):
        begun = await until_begun(client, task["contextId"], 2)
    if not begun and how == signal.SIGSTOP and sqlite:
        found.counts["stopped in a commit"] += 1  # which SQLite cannot end for it: the others wait
        victim.process.send_signal(signal.SIGCONT)
        await client.rpc(AGENT, "CancelTask", {"id": task["id"]})
        return
    assert begun, "nobody took the turn over"
    found.took(AFTER_KILL if how == signal.SIGKILL else AFTER_STOP, begun - struck)
    if how == signal.SIGKILL:
        assert left_of(below[1:], 10) == []
    else:
        victim.process.send_signal(signal.SIGCONT)
        await anyio.to_thread.run_sync(victim.wait_for, "turn_superseded")
    await client.rpc(AGENT, "CancelTask", {"id": task["id"]})
    events = await client.events(task["contextId"])
    check_log(events)
    attempts = [event["body"]["attempt"] for event in events if event["type"] == "turn_started"]
    assert attempts == [1, 2]
    check_turn(events, prompt)


def renew(workers: list[WorkerProcess], old: WorkerProcess) -> None:
    """Another one in its place."""
    old.end(signal.SIGKILL)
    workers.remove(old)
    workers.append(WorkerProcess(old.data_dir, old.env, born=old.born))
    workers[-1].start()


def check_times(found: Found) -> None:
    """For `make crash`: what a test of the suite, among many others, cannot hold to."""
    for what, bound in BOUNDS.items():
        took = statistics.median(found.seconds.get(what, [0.0]))
        assert took <= bound, f"TOO SLOW: turns {what} after {took:.2f} s (p50); the bound is {bound:g} s"


async def until_begun(client: Client, session_id: str, attempt: int) -> float:
    """When it was, as the log has it."""
    after = "0.0"
    while True:
        events = (await client.owner("sessions.events", id=session_id, after=after, limit=500))["events"]
        for event in events:
            after = f"{event['seq']}.{event['sub']}"
            if event["type"] == "turn_started" and event["body"]["attempt"] == attempt:
                return datetime.fromisoformat(event["created_at"]).timestamp()
        if not events:
            await anyio.sleep(0.03)


async def holder(workers: list[WorkerProcess]) -> WorkerProcess:
    """The one below whose warden something runs."""
    while True:
        for worker in workers:
            if len(psutil.Process(worker.process.pid).children(recursive=True)) > 1:
                return worker
        await anyio.sleep(0.02)  # its turn has begun, and its process is about to


@contextmanager
def two_workers(folder: Path, env: Mapping[str, str], born: Born) -> Iterator[list[WorkerProcess]]:
    workers = [WorkerProcess(folder, env, born=born) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        yield workers
    finally:
        for worker in workers:
            worker.end(signal.SIGKILL)


@asynccontextmanager
async def calling(gateway: GatewayProcess) -> AsyncIterator[Client]:
    client = gateway.client()
    await client.owner("agent.create", name=AGENT, runtime="rehearsal")
    try:
        yield client
    finally:
        await client.http.aclose()
