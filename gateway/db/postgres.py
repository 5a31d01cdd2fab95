"""PostgreSQL over asyncpg. Operations run one after another, in this process and all others, except those `beside`.

Those one after another share a commit as on SQLite: whatever arrived during the last one is the next. An advisory lock
keeps the processes apart. What may run `beside` has a transaction, and a connection, of its own.

A commit whose answer got lost is looked up once the database is back (`db.commits`), so that what `write` says is always
true. If it does not come back in time `write` says that it does not know, and nothing of that commit is tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import asyncpg
from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from gateway.db.commits import Mark, forget, is_stored, mark
from gateway.db.jobs import Heard, Job, Operation, T, run_all, transaction
from gateway.db.line import ALIVE, Line, key_of
from gateway.db.migrate import upgrade
from gateway.errors import OutcomeUnknown, Unavailable

MAX_BATCH = 32  # operations of one commit; all processes wait for it
WRITERS = 5  # transactions beside that one
READERS = 4
READ_SECONDS = 15.0  # for which anybody waits for what he reads, of a server that swallows what it is asked
TRIES = 5  # of a transaction the database asks to try again
OUTCOME_SECONDS = 60.0  # for the database to come back and tell what became of a commit
APPEAR_SECONDS = 10.0
SETTLE_SECONDS = 5.0  # after its own start the server knows nobody yet
HINT = "Look at the database server, and at SWITCHBOARD_DATABASE_URL."

_ORDERLY, _SCHEMA = 7301, 7302  # advisory locks: one writes after another; one migrates
# A process that was stopped or cut off must not hold up the others with its locks for ever.
_SERVER = {
    "application_name": "switchboard",
    "synchronous_commit": "on",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "4s",
}
_AGAIN = frozenset({"40001", "40P01", "0A000", "57P01", "57P02", "25P03"})  # conflict, deadlock, schema, shutdown
_TROUBLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_OUR_FAULT = ("22", "23", "42")  # classes of errors that another try cannot mend


class Postgres:
    def __init__(self, url: str) -> None:
        self._url = url
        size = WRITERS + READERS + 1
        self._engine = _engine(url, _SERVER, command_timeout=30, pool_size=size, max_overflow=0, pool_timeout=10)
        self._waiting: deque[Job] = deque()
        self._orderly = False  # somebody works on `_waiting`
        self._writers, self._readers = asyncio.Semaphore(WRITERS), asyncio.Semaphore(READERS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._line = Line(url)
        self._line_task: asyncio.Task[None] | None = None

    @property
    def heard(self) -> Heard:
        return self._line.heard

    @heard.setter
    def heard(self, heard: Heard) -> None:
        self._line.heard = heard

    async def start(self) -> None:
        engine = _engine(self._url, {"application_name": "switchboard"}, poolclass=NullPool)
        async with _errors(), engine.connect() as conn:
            await conn.run_sync(_upgrade)
        self._line_task = asyncio.get_running_loop().create_task(self._line.run())

    async def aclose(self) -> None:
        if self._line_task is not None:
            self._line_task.cancel()
            await asyncio.wait([self._line_task])
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._engine.dispose()

    def submit(self, job: Job, beside: bool) -> None:
        if beside:
            self._spawn(self._beside(job))
            return
        self._waiting.append(job)
        if not self._orderly:
            self._orderly = True
            self._spawn(self._one_after_another())

    async def read(self, op: Operation[T], snapshot: bool) -> T:
        until = asyncio.get_running_loop().time() + READ_SECONDS
        reading = self._spawn(self._read(_in_snapshot(op) if snapshot else op, until))
        if not (await asyncio.wait([reading], timeout=READ_SECONDS))[0]:
            raise Unavailable(f"The database did not answer a read within {READ_SECONDS:g} seconds.", HINT)
        return reading.result()

    def _spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task of its own: who waits for it may be cancelled, a statement on its way must not be."""
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may have left

    async def _read(self, op: Operation[T], until: float) -> T:
        async with _errors():
            async with asyncio.timeout_at(until):  # nobody waits for it any more then
                await self._readers.acquire()
            try:
                return await self._until_it_works(lambda: self._once(op))
            finally:
                self._readers.release()

    # -- other processes

    def tell(self, topic: str, detail: str) -> None:
        self._line.tell(topic, detail)

    async def appear(self, name: str) -> None:
        with anyio.move_on_after(APPEAR_SECONDS):
            await self._line.appear(name)
            return
        raise Unavailable("The database did not answer: no direct connection to it could be made.", HINT)

    async def alive(self, names: Sequence[str]) -> set[str]:
        return await self.read(lambda conn: _alive(conn, names), snapshot=False)

    # -- writing

    async def _one_after_another(self) -> None:
        while self._waiting:
            jobs = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            await self._commit(jobs, f"pg_advisory_xact_lock({_ORDERLY})")
        self._orderly = False

    async def _beside(self, job: Job) -> None:
        async with self._writers:
            await self._commit([job], "1")

    async def _commit(self, jobs: Sequence[Job], also: str) -> None:
        try:
            async with _errors():
                await self._until_it_works(lambda: self._commit_once(_Attempt(jobs, also)))
        except OutcomeUnknown as exc:
            for job in jobs:
                job.error = OutcomeUnknown(exc.message, exc.hint)
        except Exception as exc:
            if len(jobs) > 1:
                for job in jobs:
                    await self._commit([job], also)
                return
            jobs[0].error = exc
        for job in jobs:
            job.settle()

    async def _commit_once(self, attempt: _Attempt) -> None:
        try:
            await self._once(attempt.run)
        except Exception:
            if attempt.committing is None or not await self._stored(attempt.committing):
                raise

    async def _stored(self, made: Mark) -> bool:
        """What became of a commit that was not answered. Raises OutcomeUnknown if the database does not come back."""
        with anyio.move_on_after(OUTCOME_SECONDS):
            while True:
                with suppress(Exception):
                    return await self._once(lambda conn: is_stored(partial(_say, conn), made))
                await anyio.sleep(0.1)
        raise OutcomeUnknown("The database did not come back to tell whether a commit was stored.", HINT)

    # -- one transaction

    async def _until_it_works(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for _ in range(TRIES - 1):
            try:
                return await attempt()
            except DBAPIError as exc:
                if not _worth_another_try(exc):
                    raise
                await asyncio.sleep(random.uniform(0, 0.02))
        return await attempt()

    async def _once(self, op: Operation[T]) -> T:
        async with self._engine.connect() as conn:
            try:
                return await conn.run_sync(op)
            except BaseException:
                if _unclean(conn):
                    await conn.invalidate()
                raise


@dataclass(slots=True)
class _Attempt:
    """Jobs that are tried in one transaction, which asks for `also` first."""

    jobs: Sequence[Job]
    also: str
    committing: Mark | None = None  # from when it may be committed

    def run(self, conn: Connection) -> None:
        say = partial(_say, conn)
        with transaction(say, "BEGIN"):
            made = mark(conn, say, self.also)
            run_all(conn, self.jobs)
            self.committing = made


def _say(conn: Connection, sql: str, *values: object) -> Any:
    """The first column of a statement's first row, from the driver itself: what stands around every transaction is many a
    statement, and SQLAlchemy takes as long for each as the server.
    """
    driver: Any = conn.connection.driver_connection
    try:
        return await_only(driver.fetchval(sql, *values))
    except _TROUBLE as exc:
        if isinstance(exc, asyncpg.InternalClientError):  # the server's last words came when nobody had asked anything
            driver.terminate()
        raise DBAPIError(sql, None, exc, connection_invalidated=driver.is_closed()) from exc


def _in_snapshot(op: Operation[T]) -> Operation[T]:
    def snapshot(conn: Connection) -> T:
        with transaction(partial(_say, conn), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"):
            return op(conn)

    return snapshot


def _unclean(conn: AsyncConnection) -> bool:
    """Whether a connection is still in its transaction, after a ROLLBACK that failed or was not answered."""
    if conn.invalidated or conn.sync_connection is None:
        return False
    driver: Any = conn.sync_connection.connection.driver_connection
    return bool(driver.is_closed() or driver.is_in_transaction())


def _alive(conn: Connection, names: Sequence[str]) -> set[str]:
    up = conn.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())").scalar_one()
    if 0 <= up < SETTLE_SECONDS:  # below 0: its clock was set back, and it was started long ago
        return set(names)
    database = "SELECT oid FROM pg_database WHERE datname = current_database()"
    locks = f"SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = {ALIVE} AND granted"
    keys = set(conn.exec_driver_sql(f"{locks} AND database = ({database})").scalars())
    return {name for name in names if key_of(name) in keys}


def _worth_another_try(exc: DBAPIError) -> bool:
    return exc.connection_invalidated or getattr(exc.orig, "sqlstate", None) in _AGAIN


def _upgrade(conn: Connection) -> None:
    with transaction(partial(_say, conn), "BEGIN"):
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA})")
        upgrade(conn)
        forget(partial(_say, conn))


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    """Translate the driver's errors at the border. Our own pass, and so do those that are our own fault."""
    try:
        yield
    except DBAPIError as exc:
        if str(getattr(exc.orig, "sqlstate", None) or "")[:2] in _OUR_FAULT:
            raise
        raise Unavailable(f"The database did not answer: {exc.orig}", HINT) from exc
    except (*_TROUBLE, PoolTimeout) as exc:
        raise Unavailable(f"The database did not answer: {exc!r}", HINT) from exc


def _engine(url: str, server: dict[str, str], *, command_timeout: float | None = None, **pool: Any) -> AsyncEngine:
    connect = partial(asyncpg.connect, url, server_settings=server, command_timeout=command_timeout, timeout=10)
    driver = {"prepared_statement_cache_size": 500}
    return create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, isolation_level="AUTOCOMMIT", connect_args=driver, **pool
    )
