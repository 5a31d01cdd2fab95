"""PostgreSQL: who writes beside others harms nobody, a lost answer is found out, an outage is said and got over. [INV-1]"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.util import await_only

from gateway.db import line
from gateway.db import postgres as backend
from gateway.db.engine import Database
from gateway.db.postgres import _SERVER
from gateway.errors import OutcomeUnknown, Unavailable
from gateway.log.rows import Position
from gateway.log.store import Log, append, read
from registry.models import Runtime
from tests.gateway.log.log_tools import entry, make_session
from tests.postgres import PostgresServer, postgres_server

RUNTIME = Runtime.__table__  # type: ignore[attr-defined]


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server one may stop."""
    with postgres_server() as server:
        yield server


@asynccontextmanager
async def opened(*urls: str) -> AsyncIterator[list[Database]]:
    databases = [Database(url) for url in urls]
    for database in databases:
        await database.start()
    try:
        with anyio.fail_after(30):
            yield databases
    finally:
        for database in databases:
            await database.aclose()


def adding(name: str) -> Callable[[Connection], str]:
    def op(conn: Connection) -> str:
        conn.execute(insert(RUNTIME).values(name=name, checked_at=0))
        return name

    return op


def names(conn: Connection) -> list[str]:
    return sorted(conn.execute(select(RUNTIME.c.name)).scalars())


async def test_two_processes_that_write_one_after_another_see_what_the_other_wrote(url: str) -> None:
    """Both count and then add: nobody counts what the other is about to add."""
    seen: list[int] = []

    def count_and_add(conn: Connection, name: str) -> int:
        found = len(names(conn))
        adding(name)(conn)
        return found

    async def write(database: Database, name: str) -> None:
        seen.append(await database.write(partial(count_and_add, name=name)))

    async with opened(url, url) as databases, anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(write, databases[number % 2], str(number))
    assert sorted(seen) == list(range(60))


async def test_appends_beside_one_another_leave_no_gap_and_no_repeat(url: str) -> None:
    """[INV-2]"""
    async with opened(url, url) as databases:
        logs = [Log(database) for database in databases]
        await make_session(logs[0], "s", fence=1)

        async def write(log: Log) -> None:
            await log.write(lambda conn: [append(conn, "s", [entry(), entry("internal")], 1)], beside=True)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(write, logs[number % 2])
        rows = await databases[0].read(lambda conn: read(conn, "s", Position(0)))
    assert [row.position for row in rows] == [(seq, sub) for seq in range(1, 101) for sub in (0, 1)]


async def test_writes_beside_one_another_do_not_wait_for_one_another(url: str) -> None:
    async with opened(url) as (database,):
        both = asyncio.Barrier(2)

        def meet(conn: Connection) -> None:
            conn.execute(text("SELECT 1"))
            wait_for(both.wait())

        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(partial(database.write, meet, beside=True))


async def test_a_deadlock_is_tried_again(url: str) -> None:
    async with opened(url) as (database,):
        for name in ("a", "b"):
            await database.write(adding(name))
        both, met = asyncio.Barrier(2), [False, False]

        def lock(conn: Connection, me: int, order: str) -> None:
            for name in order:
                conn.execute(select(RUNTIME).where(RUNTIME.c.name == name).with_for_update())
                if not met[me]:
                    met[me] = True
                    wait_for(both.wait())

        async with anyio.create_task_group() as group:
            group.start_soon(partial(database.write, partial(lock, me=0, order="ab"), beside=True))
            group.start_soon(partial(database.write, partial(lock, me=1, order="ba"), beside=True))


def wait_for(coro: Any) -> Any:
    """Wait inside an operation, the way the driver does."""
    return await_only(coro)


async def test_a_statement_that_is_wrong_is_not_tried_again(url: str) -> None:
    runs: list[None] = []

    def broken(conn: Connection) -> None:
        runs.append(None)
        conn.execute(text("SELECT * FROM nowhere"))

    async with opened(url) as (database,):
        with pytest.raises(Exception, match="nowhere"):
            await database.write(broken)
        assert await database.write(adding("a")) == "a"
    assert len(runs) == 1


async def test_a_connection_that_was_cut_is_replaced(url: str, postgres: PostgresServer) -> None:
    async with opened(url) as (database,):
        await database.write(adding("a"))
        postgres.sql(
            "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'switchboard'"
        )
        assert await database.read(names) == ["a"]
        assert await database.write(adding("b")) == "b"


@asynccontextmanager
async def cutting(folder: Path, socket: Path, commits: set[int]) -> AsyncIterator[None]:
    """A way to the server on which the answers to some commits, counted from one, get lost with their connection."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        there = await asyncio.open_unix_connection(str(socket))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: bool) -> None:
            nonlocal seen
            while data := await source.read(65536):
                if cut and b"COMMIT\0" in data:
                    seen += 1
                    if seen in commits:
                        break
                sink.write(data)
            for end in (writer, there[1]):
                end.close()

        await asyncio.gather(pump(reader, there[1], False), pump(there[0], writer, True), return_exceptions=True)

    server = await asyncio.start_unix_server(serve, folder / ".s.PGSQL.5432")
    async with server:
        yield


async def test_a_commit_whose_answer_got_lost_is_found_out(tmp_path: Path, url: str, postgres: PostgresServer) -> None:
    told: list[str] = []
    there = postgres.folder / ".s.PGSQL.5432"
    through = url.replace(str(postgres.folder), str(tmp_path))
    async with cutting(tmp_path, there, {3, 5}), opened(through) as (database,):
        for number in range(6):
            await database.write(adding(str(number)), told.append, beside=number % 2 == 0)
        assert await database.read(names) == ["0", "1", "2", "3", "4", "5"]
    assert told == ["0", "1", "2", "3", "4", "5"]


async def test_a_commit_that_stays_unknown_is_not_tried_again_and_all_who_share_it_are_told(
    tmp_path: Path, url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[DB-2]"""
    monkeypatch.setattr(backend, "OUTCOME_SECONDS", 0.0)  # nobody is asked what became of it
    runs: list[str] = []
    told: list[BaseException] = []

    def counted(name: str, conn: Connection) -> None:
        runs.append(name)
        adding(name)(conn)

    async def write(database: Database, name: str) -> None:
        with pytest.raises(OutcomeUnknown) as caught:
            await database.write(partial(counted, name))
        told.append(caught.value)

    there, through = postgres.folder / ".s.PGSQL.5432", url.replace(str(postgres.folder), str(tmp_path))
    async with cutting(tmp_path, there, {2}), opened(through) as (database,):
        async with anyio.create_task_group() as group:
            for name in ("first", "second"):
                group.start_soon(write, database, name)
        assert await database.read(names) == ["first", "second"]
        await database.write(adding("third"))
    assert runs == ["first", "second"]
    assert len(set(map(id, told))) == 2


async def test_while_the_server_is_down_writes_and_reads_are_unavailable_and_then_go_on(own_server: PostgresServer) -> None:
    async with opened(own_server.url("migrated")) as (database,):
        await database.write(adding("a"))
        for how in (signal.SIGQUIT, signal.SIGINT):
            own_server.stop(how)
            with pytest.raises(Unavailable):
                await database.write(adding("lost"))
            with pytest.raises(Unavailable):
                await database.read(names)
            own_server.start()
            assert await database.read(names) == ["a"]
        await database.write(adding("b"))
        assert await database.read(names) == ["a", "b"]


async def test_who_reads_is_not_kept_waiting_by_a_server_that_does_not_answer(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[DB-3] Nor by those who wait for it already."""
    asked = 3 * backend.READERS
    answers, begun, refused = anyio.Event(), list[int](), list[int]()

    async def ask(database: Database, number: int) -> None:
        def silent(_: Connection) -> None:
            begun.append(number)
            await_only(answers.wait())

        with pytest.raises(Unavailable):
            await database.read(silent)
        refused.append(number)

    async with opened(url) as (database,):
        with monkeypatch.context() as patch, anyio.fail_after(5):
            patch.setattr(backend, "READ_SECONDS", 0.3)
            try:
                async with anyio.create_task_group() as group:
                    for number in range(asked):
                        group.start_soon(ask, database, number)
            finally:
                answers.set()
        assert sorted(refused) == list(range(asked))
        assert await database.read(names) == []
        assert len(begun) == backend.READERS  # for who gave up nothing is asked any more


async def test_a_server_that_is_not_there_is_unavailable_at_the_start(tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/nothing?host={tmp_path}")
    with pytest.raises(Unavailable, match="did not answer"):
        await database.start()
    await database.aclose()


async def test_who_stands_still_between_preparing_a_statement_and_executing_it_is_thrown_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[LEASE-1] The server takes it for active: its timeouts for idle transactions do not hold."""
    monkeypatch.setattr(line, "STILL_SECONDS", 0.3)
    stopped = await asyncpg.connect(url, server_settings=_SERVER)
    await stopped.execute("BEGIN")
    await stopped.execute("LOCK TABLE runtime")
    await stopped.prepare("SELECT count(*) FROM runtime")
    async with opened(url) as (database,):
        assert await database.write(adding("after all")) == "after all"
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        await stopped.execute("COMMIT")
