"""What the engine is measured by: how soon it acknowledges and takes over, how late others hear, what idle sessions weigh."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import aiohttp
import anyio

from tests.bench import measures
from tests.bench.stage import AGENT, Stage, call
from tests.crash.found import Found
from tests.crash.nursery import nursery
from tests.crash.takeovers import take_over
from tests.support import Json, message, serving


async def acknowledgements(stage: Stage, count: int, load: int = 8) -> Json:
    """Milliseconds until SendMessage with returnImmediately is answered, while so many sessions stream."""
    over, seconds = anyio.Event(), []
    url = stage.url(AGENT)
    async with stage.http() as http, anyio.create_task_group() as group:

        async def stream() -> None:
            while not over.is_set():
                await call(http, url, "N=200 D=1000")

        for _ in range(load):
            group.start_soon(stream)
        await call(http, url, "N=200 D=1000")
        for _ in range(count):
            seconds.append(await _acknowledged(http, url))
        over.set()
    return {"load": load, "count": count} | quantiles(seconds)


async def _acknowledged(http: aiohttp.ClientSession, url: str) -> float:
    params = {"message": message("N=1"), "configuration": {"returnImmediately": True}}
    began = time.perf_counter()
    async with http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}) as answer:
        body = await answer.read()
    assert answer.status == 200
    assert b'"task"' in body, body
    return time.perf_counter() - began


def quantiles(seconds: list[float]) -> Json:
    """Milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return {"p50": round(statistics.median(ordered) * 1e3, 1), "p99": round(p99 * 1e3, 1), "max": round(ordered[-1] * 1e3, 1)}


async def idle(stage: Stage, count: int, warm: int) -> Json:
    """Resident memory of a gateway before and after so many sessions more, all of them at rest."""
    await asyncio.to_thread(measures.sessions, stage, 8, warm, 1)
    before = stage.server.memory_info().rss
    await asyncio.to_thread(measures.sessions, stage, 8, count, 1)
    after = stage.server.memory_info().rss
    held = len(stage.warden.children(recursive=True))
    return {
        "sessions": count,
        "before_mb": round(before / 1e6, 1),
        "after_mb": round(after / 1e6, 1),
        "bytes_each": round((after - before) / count),
        "processes_held": held,
    }


def takeovers(folder: Path, database: str, rounds: int) -> Json:
    """Seconds from the kill, or the stop (by turns), of a worker to the beginning of the next attempt at the other."""
    env = {} if database.startswith("sqlite") else {"SWITCHBOARD_DATABASE_URL": database}
    found = Found("takeovers", rounds)
    home = folder / "takeovers"
    home.mkdir()
    with nursery() as born:
        anyio.run(take_over, home, found, random.Random(1), env, born)
    return {
        name.removeprefix("go on after a "): {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}
        for name, times in found.seconds.items()
    }


async def lateness(folder: Path, database: str, hints: bool, pieces: int) -> Json:
    """Milliseconds from an event's commit to its arrival at a reader of another gateway, with hints or by polls alone."""
    late: list[float] = []
    home = folder / f"late-{hints}"
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(serving(home, worker=False, database_url=database))
        back = await stack.enter_async_context(serving(home, database_url=database))
        if not hints:
            for gateway in (front, back):
                gateway.engine.log.database.hear(lambda words: None)
        async for frame in front.stream("hello", f"N={pieces} D=50000"):
            update = frame.result.get("artifactUpdate")
            if frame.id and update:
                late.append(time.time())
                session = update["contextId"]
        made = [event["created_at"] for event in await front.events(session) if event["type"] == "chunk"]
    return quantiles([seen - datetime.fromisoformat(at).timestamp() for seen, at in zip(late, made, strict=True)])
