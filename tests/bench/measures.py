"""What is measured. Each function answers figures by name; nothing here asserts a time."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, text

from adapters import events as ev
from gateway.clock import now_us
from gateway.db.engine import Database
from gateway.log.models import Session
from gateway.log.store import Log, append, entries
from tests.bench.stage import AGENT, STAMPED, Stage, call, cpu, get_task, load
from tests.support import Json

Figures = dict[str, Any]
LENGTHS = (1_000, 10_000, 100_000)
APPENDED = (1_000, 100_000, 1_000_000)


async def throughput(stage: Stage, deltas: int = 5000, repeat: int = 5) -> Figures:
    """One session at a time: pieces of text a second, from the request to the last frame."""
    words = "".join(f"word{number} " for number in range(deltas))
    walls, used = [], []
    async with stage.http() as http:
        await call(http, stage.url(AGENT), "N=5")
        for _ in range(repeat):
            before = cpu(stage.server)
            made = await call(http, stage.url(AGENT), f"N={deltas}")
            walls.append(made.seconds)
            used.append(cpu(stage.server) - before)
            assert _stored_text(made.data).startswith(words), "text is missing"
    return {
        "deltas": deltas,
        "deltas_per_s": round(deltas / statistics.median(walls)),
        "cpu_us_per_delta": round(statistics.median(used) / deltas * 1e6, 1),
    }


def _stored_text(stream: bytes) -> str:
    """The whole artifact that stands before the final status."""
    frames = [json.loads(line[6:])["result"] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    whole = next(frame["artifactUpdate"] for frame in frames if frame.get("artifactUpdate", {}).get("lastChunk"))
    return "".join(part["text"] for part in whole["artifact"]["parts"])


async def latency(stage: Stage, repeat: int = 40) -> Figures:
    """Milliseconds from the request to the runtime's first byte, and from there to the first text at the client."""
    starts, firsts, totals = [], [], []
    async with stage.http() as http:
        for _ in range(repeat):
            made = await call(http, stage.url(STAMPED), "N=20 D=5000")
            began = int(stage.stamps.read_text().split()[-1]) / 1e9
            starts.append(began - made.asked)
            firsts.append(made.first_text - began)
            totals.append(made.first_text - made.asked)
    return {
        "request_to_first_line_ms": _spread(starts),
        "first_line_to_first_delta_ms": _spread(firsts),
        "request_to_first_delta_ms": _spread(totals),
    }


def _spread(seconds: list[float]) -> Json:
    return {"p50": round(statistics.median(seconds) * 1e3, 1), "p95": round(statistics.quantiles(seconds, n=20)[-1] * 1e3, 1)}


def sessions(stage: Stage, at_once: int, count: int, deltas: int = 200) -> Figures:
    """Many short sessions. CPU is the server's own; the warden's stands beside it."""
    before = cpu(stage.warden)
    found = load(stage, n=deltas, conc=at_once, sessions=count)
    warden = (cpu(stage.warden) - before) / (count + 1) * 1e3  # load.py warms up with one
    own = found["srv_cpu_ms_per_session"]
    return {
        "at_once": at_once,
        "sessions_per_s": found["sess_per_s"],
        "first_ms_p50": found["first_ms_p50"],
        "total_ms_p50": found["total_ms_p50"],
        "total_ms_p95": found["total_ms_p95"],
        "server_cpu_ms": own,
        "with_warden_cpu_ms": round(own + warden, 1),
        "rss_mb": found["rss_mb"],
    }


async def append_cost(url: str, lengths: Sequence[int] = APPENDED, batch: int = 10, sample: int = 2000) -> Figures:
    """Microseconds of CPU (without the database server's) and in all of an event, appended to a session so long already."""
    database = Database(url)
    await database.start()
    log = Log(database)
    await database.write(lambda conn: _session(conn, "ses_long"))
    found: Figures = {}
    length = 0
    for wanted in lengths:
        await _append(log, "ses_long", wanted - sample // 2 - length, 500)
        used, began = time.process_time(), time.perf_counter()
        await _append(log, "ses_long", sample, batch)
        cpu_us, all_us = (time.process_time() - used) / sample * 1e6, (time.perf_counter() - began) / sample * 1e6
        found[wanted] = {"cpu_us": round(cpu_us, 1), "us": round(all_us, 1)}
        length = wanted + sample // 2
    await database.aclose()
    return found


def _session(conn: Connection, id: str) -> None:
    row = {"id": id, "agent_id": "agt_x", "agent_version": 1, "principal": "x", "status": "idle", "fence": 1, "native": {}}
    conn.execute(insert(Session).values(**row, created_at=now_us(), updated_at=now_us()))


async def _append(log: Log, session_id: str, count: int, batch: int, fence: int | None = 1, **ids: Any) -> None:
    """`count` events that do not merge."""
    many = [ev.tool_result("call_1", "x" * 150)] * batch
    for _ in range(count // batch):
        new = entries(many, task_id=ids.get("task_id"), turn_id=ids.get("turn_id"))
        await log.write(lambda conn, new=new: [append(conn, session_id, new, fence)])  # type: ignore[misc]


async def long_session(stage: Stage, length: int, repeat: int = 10) -> Figures:
    """A turn in a session with so many events; GetTask of a short task there, and of a task that long: first, and again."""
    database = Database(stage.database)
    await database.start()
    async with stage.http() as http:
        url = stage.url(AGENT)
        first = _task_of((await call(http, url, "N=5")).data)
        ids = {"task_id": first["id"], "turn_id": "trn_bench"}
        await _append(Log(database), first["contextId"], length, 500, None, **ids)
        before, walls, last = cpu(stage.server), [], first
        for _ in range(repeat):
            made = await call(http, url, "N=200", first["contextId"])
            walls.append(made.seconds)
            last = _task_of(made.data)
        used = (cpu(stage.server) - before) / repeat
        new = [(await get_task(http, url, last["id"]))[0] for _ in range(repeat)]
        await database.write(lambda conn: _stretch(conn, first["id"]))
        unfolded, folded = [(await get_task(http, url, first["id"]))[0] for _ in range(2)]
    await database.aclose()
    return {
        "events": length,
        "turn_ms_p50": round(statistics.median(walls) * 1e3, 1),
        "turn_cpu_ms": round(used * 1e3, 1),
        "get_task_ms_p50": round(statistics.median(new) * 1e3, 1),
        "get_task_that_long_ms": round(unfolded * 1e3, 1),
        "and_again_ms": round(folded * 1e3, 1),
    }


def _task_of(stream: bytes) -> Json:
    head = next(line for line in stream.split(b"\n") if line.startswith(b"data: "))
    task: Json = json.loads(head[6:])["result"]["task"]
    return task


def _stretch(conn: Connection, task_id: str) -> None:
    """Make what was appended to a task that had ended part of it."""
    last = "(SELECT max(seq) FROM event WHERE task_id = task.id)"
    conn.execute(text(f"UPDATE task SET snapshot = NULL, snapshot_seq = {last} WHERE id = :id"), {"id": task_id})
