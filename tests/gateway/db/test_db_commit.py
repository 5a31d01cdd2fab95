"""Group commit: whoever writes at the same time shares a commit and nothing else. [INV-1]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup
from sqlalchemy import Connection, Engine, event, insert, select

from gateway.db.engine import Database
from gateway.db.sqlite import MAX_BATCH
from gateway.errors import Conflict, Unavailable
from registry.models import Runtime

RUNTIME = Runtime.__table__  # type: ignore[attr-defined]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{folder / 'test.db'}")
    await database.start()
    try:
        with anyio.fail_after(20):
            yield database
    finally:
        await database.aclose()


@asynccontextmanager
async def meanwhile(database: Database) -> AsyncIterator[TaskGroup]:
    """What is started in the group waits together for the writer, which is busy until the end of the block."""
    begun, go_on = Event(), Event()

    def op(conn: Connection) -> None:
        begun.set()
        go_on.wait(10)

    async with anyio.create_task_group() as group:
        group.start_soon(database.write, op)
        await anyio.to_thread.run_sync(begun.wait, 10)
        yield group
        await anyio.wait_all_tasks_blocked()
        go_on.set()


@contextmanager
def commits() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement == "COMMIT":
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def adding(name: str) -> Callable[[Connection], str]:
    def op(conn: Connection) -> str:
        conn.execute(insert(RUNTIME).values(name=name, checked_at=0))
        return name

    return op


def refusing(conn: Connection) -> None:
    conn.execute(insert(RUNTIME).values(name="never", checked_at=0))
    raise Conflict("refused after its insert", "nothing to do")


def names(conn: Connection) -> list[str]:
    return list(conn.execute(select(RUNTIME.c.name).order_by(RUNTIME.c.name)).scalars())


async def test_many_writes_at_once_are_all_stored_and_answered(tmp_path: Path) -> None:
    answers: list[str] = []
    wanted = [f"r{number:04}" for number in range(3 * MAX_BATCH)]

    async def write(name: str) -> None:
        answers.append(await database.write(adding(name)))

    async with opened(tmp_path) as database:
        async with anyio.create_task_group() as group:
            for name in wanted:
                group.start_soon(write, name)
        assert sorted(answers) == wanted
        assert await database.read(names) == wanted


async def test_what_waits_together_is_one_commit(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        with commits() as seen:
            async with meanwhile(database) as group:
                for number in range(50):
                    group.start_soon(database.write, adding(str(number)))
        assert len(seen) == 2  # that of the busy writer, and that of all the others


async def test_an_operation_that_raises_harms_none_of_its_neighbours(tmp_path: Path) -> None:
    raised: list[str] = []

    async def refuse() -> None:
        try:
            await database.write(refusing)
        except Conflict as exc:
            raised.append(exc.message)

    async with opened(tmp_path) as database:
        async with meanwhile(database) as group:
            group.start_soon(database.write, adding("a"))
            group.start_soon(refuse)
            group.start_soon(database.write, adding("b"))
        assert await database.read(names) == ["a", "b"]
    assert raised == ["refused after its insert"]


async def test_what_comes_after_a_commit_happens_although_the_caller_was_cancelled(tmp_path: Path) -> None:
    told: list[str] = []
    async with opened(tmp_path) as database:
        async with meanwhile(database) as group:
            impatient = anyio.CancelScope()

            async def write() -> None:
                with impatient:
                    await database.write(adding("a"), told.append)

            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            impatient.cancel()
        await database.write(adding("b"), told.append)
        assert await database.read(names) == ["a", "b"]
    assert told == ["a", "b"]


async def test_nothing_comes_after_a_commit_that_was_refused(tmp_path: Path) -> None:
    told: list[None] = []
    async with opened(tmp_path) as database:
        with pytest.raises(Conflict):
            await database.write(refusing, told.append)
        await database.write(adding("a"))
    assert told == []


async def test_a_read_sees_one_moment_while_others_write(tmp_path: Path) -> None:
    looked, wrote = Event(), Event()

    def look_twice(conn: Connection) -> tuple[list[str], list[str]]:
        first = names(conn)
        looked.set()
        wrote.wait(10)
        return first, names(conn)

    found: list[tuple[list[str], list[str]]] = []

    async def read() -> None:
        found.append(await database.read(look_twice))

    async with opened(tmp_path) as database:
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.to_thread.run_sync(looked.wait, 10)
            await database.write(adding("a"))  # does not wait for the reader
            wrote.set()
        assert found == [([], [])]
        assert await database.read(names) == ["a"]


async def test_closing_commits_what_was_accepted(tmp_path: Path) -> None:
    async with opened(tmp_path) as database, meanwhile(database) as group:
        for number in range(5):
            group.start_soon(database.write, adding(str(number)))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(database.aclose)
    async with opened(tmp_path) as database:
        assert await database.read(names) == ["0", "1", "2", "3", "4"]


async def test_a_closed_database_refuses_instead_of_never_answering(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        await database.aclose()
        with pytest.raises(Unavailable):
            await database.write(adding("late"))


async def test_closing_waits_for_the_writer_although_it_is_cancelled(tmp_path: Path) -> None:
    async with opened(tmp_path) as database, meanwhile(database) as group:
        group.start_soon(database.write, adding("a"))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(close_in_a_hurry, database)
    async with opened(tmp_path) as database:
        assert await database.read(names) == ["a"]


async def close_in_a_hurry(database: Database) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await database.aclose()
