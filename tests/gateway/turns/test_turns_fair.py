"""Whose turn is next: rounds among agents and callers, limits of agents, and what a claim costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Connection

from gateway.turns import queue
from gateway.turns.spec import Inbound
from tests.gateway.log.log_tools import opened
from tests.gateway.turns.calls import AT_ONCE, Call, calling, cancel, make_agent, of_type, speaks, state_of
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import Client, Json, message, serving

both = pytest.mark.usefixtures("database_url")


@asynccontextmanager
async def one_place(tmp_path: Path) -> AsyncIterator[tuple[Client, Call]]:
    """A gateway whose only place is taken, until the call is cancelled."""
    async with serving(tmp_path, RUNTIMES, concurrency=1, stop_seconds=0) as gateway:
        with anyio.fail_after(60):
            async with calling(gateway, "N=1 HANG") as call:
                await call.until(speaks)
                yield gateway, call


async def in_the_order_they_began(gateway: Client, tasks: list[Json]) -> list[str]:
    """Ids of tasks, once all have ended."""
    began = []
    for task in tasks:
        async for _ in gateway.frames("hello", "SubscribeToTask", {"id": task["id"]}):
            pass
        (start,) = of_type(await gateway.events(task["contextId"]), "turn_started")
        began.append((start["created_at"], task["id"]))
    return [id for _, id in sorted(began)]


@both
async def test_a_burst_on_one_agent_does_not_starve_another(tmp_path: Path) -> None:
    """[FAIR-1]"""
    async with one_place(tmp_path) as (gateway, call):
        await make_agent(gateway, "other", "rehearsal")
        burst = [await gateway.send("hello", "N=1", configuration=AT_ONCE) for _ in range(5)]
        late = [await gateway.send("other", "N=1", configuration=AT_ONCE) for _ in range(2)]
        await cancel(gateway, call.task["id"])
        order = await in_the_order_they_began(gateway, [*burst, *late])
    (a, b, *rest), (x, y) = ([task["id"] for task in tasks] for tasks in (burst, late))
    assert order == [x, a, y, b, *rest] or order == [a, x, b, y, *rest]


@both
async def test_a_burst_of_one_caller_does_not_starve_another(tmp_path: Path) -> None:
    """[FAIR-1]"""
    async with one_place(tmp_path) as (gateway, call):
        burst = [await gateway.send("hello", "N=1", configuration=AT_ONCE) for _ in range(5)]
        await gateway.sign_in()
        late = await gateway.send("hello", "N=1", configuration=AT_ONCE)
        del gateway.http.headers["X-API-Key"]
        await cancel(gateway, call.task["id"])
        await in_the_order_they_began(gateway, burst)
        (start,) = of_type(await gateway.events(late["contextId"]), "turn_started")
        starts = [of_type(await gateway.events(task["contextId"]), "turn_started")[0]["created_at"] for task in burst]
    assert sum(before < start["created_at"] for before in starts) <= 1


@both
async def test_an_agent_never_runs_more_turns_than_it_may_and_holds_up_no_other(tmp_path: Path) -> None:
    """[FAIR-2]"""
    async with serving(tmp_path, RUNTIMES, concurrency=4, stop_seconds=0) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "narrow", "rehearsal", limits={"running_turns": 1})
            async with calling(gateway, "N=1 HANG", agent="narrow") as first:
                await first.until(speaks)
                waiting = [await gateway.send("narrow", "N=1", configuration=AT_ONCE) for _ in range(3)]
                assert state_of(await gateway.send("hello", "N=1")) == "COMPLETED"
                states = [state_of(await gateway.get("narrow", task["id"])) for task in waiting]
                await cancel(gateway, first.task["id"], "narrow")
            for task in waiting:
                assert await ended(gateway, "narrow", task) == "COMPLETED"
            edges = [
                (event["created_at"], event["type"])
                for task in waiting
                for event in of_type(await gateway.events(task["contextId"]), "turn_started", "done")
            ]
    assert states == ["SUBMITTED"] * 3
    assert [type for _, type in sorted(edges)] == ["turn_started", "done"] * 3


async def ended(gateway: Client, agent: str, task: Json) -> str:
    while (state := state_of(await gateway.get(agent, task["id"]))) in ("SUBMITTED", "WORKING"):
        await gateway.http.get(f"{gateway.url}/health")
    return state


@both
async def test_a_higher_limit_holds_for_what_waits_already(tmp_path: Path) -> None:
    """[FAIR-2]"""
    async with serving(tmp_path, RUNTIMES, concurrency=8, stop_seconds=0) as gateway:
        with anyio.fail_after(30):
            await make_agent(gateway, "narrow", "rehearsal", limits={"running_turns": 1})
            async with calling(gateway, "N=1 HANG", agent="narrow") as first:
                await first.until(speaks)
                two = [await gateway.send("narrow", "N=1 HANG", configuration=AT_ONCE) for _ in range(2)]
                await gateway.owner("agent.update", name="narrow", changes={"limits": {"running_turns": 2}})
                await cancel(gateway, first.task["id"], "narrow")
            for task in two:
                async for frame in gateway.frames("narrow", "SubscribeToTask", {"id": task["id"]}):
                    if "artifactUpdate" in frame.result or "artifacts" in frame.result.get("task", {}):
                        break
            for task in two:
                await cancel(gateway, task["id"], "narrow")


@both
async def test_a_caller_begins_no_more_sessions_than_the_agent_allows(tmp_path: Path) -> None:
    """[LIMIT-2]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "few", "rehearsal", limits={"caller_sessions": 2})
            first, _ = [await gateway.send("few", "N=1") for _ in range(2)]
            refused = await gateway.rpc("few", "SendMessage", {"message": message("N=1")})
            again = await gateway.send("few", "N=1", contextId=first["contextId"])
            await gateway.sign_in()
            other = await gateway.send("few", "N=1")
    assert "A caller may have 2 sessions" in refused["error"]["message"]
    assert [state_of(task) for task in (again, other)] == ["COMPLETED", "COMPLETED"]


def steps(conn: Connection, act: Callable[[], Any]) -> int:
    """Instructions of SQLite's machine that an act takes."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    raw: Any = conn.connection.driver_connection
    raw.set_progress_handler(tick, 1)
    try:
        act()
    finally:
        raw.set_progress_handler(None, 1)
    return count


def fill(conn: Connection, waiting: int) -> None:
    """Turns that wait: for a place, behind others of their session, and for an agent that has enough."""
    conn.exec_driver_sql("INSERT INTO agent (id, name, version, created_at, updated_at) VALUES ('narrow', 'n', 1, 1, 1)")
    columns = "agent_id, version, runtime, prompt, description, skills, limits, env, command, mcp_servers, public, edition"
    values = "'narrow', 1, 'x', '', '', '[]', '{\"running_turns\": 1}', '{}', '[]', '[]', 1, 1, 1, '[]', 1"
    conn.exec_driver_sql(f"INSERT INTO agent_version ({columns}, edition_at, changed, created_at) VALUES ({values})")
    for number in range(waiting):
        for agent, context in (("narrow", None), ("wide", "one-context"), ("wide", None)):
            new = Inbound(({"text": "x"},), context_id=context)
            queue.accept(conn, agent, 1, f"caller:{number % 7}" if context is None else "caller:0", new, 10**6)


def take(conn: Connection) -> None:
    (turn,) = queue.claim(conn, "wrk", 1)
    queue.release(conn, turn)


async def cost_of_a_claim(folder: Path, waiting: int) -> int:
    async with opened(folder) as log:

        def op(conn: Connection) -> int:
            fill(conn, waiting)
            queue.claim(conn, "wrk", 3)  # those stay, so that what waits for them is put aside
            for _ in range(5):
                take(conn)
            return max(steps(conn, lambda: take(conn)) for _ in range(20))

        return await log.database.write(op)


async def test_a_claim_costs_the_same_however_many_turns_wait(tmp_path: Path) -> None:
    """[FAIR-3]"""
    few, many = [await cost_of_a_claim(tmp_path / str(waiting), waiting) for waiting in (40, 600)]
    assert many <= few * 1.5
