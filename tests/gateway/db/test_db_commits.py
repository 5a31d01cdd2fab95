"""Whether a commit that was not answered is stored, also on a server that has died meanwhile."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import asyncpg
import pytest
from sqlalchemy import Connection, insert

from gateway.db.commits import Mark
from gateway.db.engine import Database
from gateway.db.postgres import Postgres
from registry.models import Runtime
from tests.postgres import PostgresServer, postgres_server

OURS = "INSERT INTO connection VALUES ('ours', $1, 1) ON CONFLICT (id) DO UPDATE SET commits = excluded.commits"


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[Database, Postgres]]:
    database = Database(url)
    await database.start()
    try:
        with anyio.fail_after(60):
            assert isinstance(database._backend, Postgres)
            yield database, database._backend
    finally:
        await database.aclose()


async def begun(url: str, number: int) -> Any:
    """A connection in the middle of its transaction of that number."""
    conn = await asyncpg.connect(url)
    await conn.execute("BEGIN")
    await conn.execute(OURS, number)
    return conn


def add(conn: Connection) -> None:
    conn.execute(insert(Runtime).values(name="another's", path="x", checked_at=0))


async def test_a_commit_that_a_dead_server_lost_is_not_taken_for_anothers(own_server: PostgresServer) -> None:
    """[INV-1] The server may give the number of the lost transaction to the next one."""
    url = own_server.url(own_server.create())
    async with opened(url) as (database, backend):
        lost = await begun(url, 1)
        await anyio.to_thread.run_sync(own_server.stop, signal.SIGQUIT)
        await anyio.to_thread.run_sync(own_server.start)
        lost.terminate()
        await database.write(add)
        assert not await backend._stored(Mark("ours", 1))


async def test_a_commit_that_is_on_its_way_is_waited_for(own_server: PostgresServer) -> None:
    """[INV-1]"""
    url = own_server.url(own_server.create())
    async with opened(url) as (_, backend), anyio.create_task_group() as group:
        found: dict[int, bool] = {}

        async def look(number: int) -> None:
            found[number] = await backend._stored(Mark("ours", number))

        for number, word in ((1, "COMMIT"), (2, "ROLLBACK"), (3, "COMMIT")):
            conn = await begun(url, number)
            group.start_soon(look, number)
            while not await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await anyio.sleep(0.01)
            await conn.execute(word)
            await conn.close()
    assert found == {1: True, 2: False, 3: True}
