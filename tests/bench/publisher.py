"""A gateway in whose log one task's events appear at a steady rate once enough readers have come: for the fan-out.

usage: python -m tests.bench.publisher READERS RATE SECONDS   (settings from the environment)
Prints the task's id when it can be subscribed to, and what it used of the CPU at the end.
"""

from __future__ import annotations

import json
import sys
import time

import anyio
import uvicorn
from sqlalchemy import Connection, insert, select, update

from adapters import events as ev
from gateway.app import create_app
from gateway.clock import now_us
from gateway.log.models import Session, Task
from gateway.log.rows import Batch
from gateway.log.store import Log, append, entries
from gateway.settings import Settings
from gateway.telemetry import configure
from gateway.turns import queue
from registry.models import Agent

SESSION, TASK, TURN = "ses_bench", "tsk_bench", "trn_bench"
PRINCIPAL = "anonymous"
TICK = 0.01


def begin(conn: Connection) -> list[Batch]:
    """A session whose task works, though no runtime does."""
    now = now_us()
    agent = conn.execute(select(Agent.id)).scalars().first()
    mine = {"agent_id": agent, "principal": PRINCIPAL, "created_at": now, "updated_at": now}
    conn.execute(insert(Session).values(id=SESSION, agent_version=1, status="running", fence=1, native={}, **mine))
    conn.execute(insert(Task).values(id=TASK, session_id=SESSION, state="working", first_seq=1, snapshot_seq=0, **mine))
    started = ev.Event("turn_started", "progress", {"turn": TURN, "attempt": 1}, "system")
    return [append(conn, SESSION, entries([started], task_id=TASK, turn_id=TURN))]


def end(conn: Connection) -> list[Batch]:
    batch = append(conn, SESSION, entries([ev.done("completed")], task_id=TASK, turn_id=TURN))
    conn.execute(update(Task).values(state="completed", snapshot_seq=batch.after.seq).where(Task.id == TASK))  # type: ignore[arg-type]
    return [batch, *queue.archive(conn, SESSION)]  # which ends the session's own streams


async def publish(log: Log, rate: int, seconds: float) -> float:
    """Append `rate` events a second; answers how long it took."""
    each, began = round(rate * TICK), time.monotonic()
    for tick in range(round(seconds / TICK)):
        await anyio.sleep(max(0, began + tick * TICK - time.monotonic()))
        new = [entry for _ in range(each) for entry in entries([ev.chunk("some words ")], task_id=TASK, turn_id=TURN)]
        await log.write(lambda conn, new=new: [append(conn, SESSION, new)])  # type: ignore[misc]
    return time.monotonic() - began


async def main(readers: int, rate: int, seconds: float) -> None:
    settings = Settings()
    configure(settings)
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_config=None, access_log=False, backlog=4096))
    log: Log = app.state.log
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
            await anyio.sleep(0.05)
        await log.write(begin)
        print(json.dumps({"task": TASK, "session": SESSION}), flush=True)
        while log.hub.readers(SESSION) < readers:  # noqa: ASYNC110  (nor has the hub)
            await anyio.sleep(0.05)
        used = time.process_time()
        took = await publish(log, rate, seconds)
        await log.write(end)
        while log.hub.readers(SESSION):  # noqa: ASYNC110
            await anyio.sleep(0.05)
        cpu = time.process_time() - used
        print(json.dumps({"published_in": round(took, 2), "cpu_s": round(cpu, 2)}), flush=True)
        server.should_exit = True


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), backend_options={"use_uvloop": True})
