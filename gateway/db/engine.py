"""The database: reads run beside one another, writes are group-committed.

An operation is a plain function of a SQLAlchemy `Connection`. `write` runs it inside a transaction together with
whatever else arrived during the last commit, and answers only after the commit: durable before visible. SQLite has
one writer thread (WAL, `synchronous=FULL`: NORMAL loses acknowledged rows at a power loss); an operation may run
again if a neighbour in its batch failed, so it must do nothing but talk to its connection.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from gateway.errors import SwitchboardError, Unavailable, UsageError

T = TypeVar("T")
Operation = Callable[[Connection], T]

MAX_BATCH = 256  # operations of one commit
READERS = 4  # threads that read


@dataclass(slots=True)
class _Job:
    op: Operation[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    after: Callable[[Any], None] | None = None
    result: Any = None
    error: BaseException | None = None


class Database:
    """One database, opened by `start` and closed by `aclose`."""

    def __init__(self, url: str) -> None:
        if not re.fullmatch(r"sqlite:///(?!:memory:).+", url):
            raise UsageError(f"The database URL {url!r} is not supported.", "Use sqlite:///PATH, or leave it unset.")
        self.url = url
        self._engine = _sqlite_engine(url)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: anyio.CapacityLimiter | None = None
        self._closed = False

    async def start(self) -> None:
        """Bring the schema up to date and start the writer. Raises Unavailable if the database cannot be used."""
        self._readers = anyio.CapacityLimiter(READERS)
        await anyio.to_thread.run_sync(self._upgrade)
        self._thread = threading.Thread(target=self._write_loop, name="switchboard-writer", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Commit what was accepted, then close."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            if self._thread is not None:
                self._jobs.put(None)
                await anyio.to_thread.run_sync(self._thread.join)
                self._thread = None
        self._engine.dispose()

    async def write(self, op: Operation[T], after: Callable[[T], None] | None = None) -> T:
        """Run `op` in a transaction and return its result once it is durable.

        `after` is called on the event loop with the result right after the commit, in commit order, even if the
        caller was cancelled meanwhile. Raises what `op` raises, and
        Unavailable when the database refuses (locked, disk full): then nothing was stored.
        """
        if self._closed:
            raise Unavailable("The gateway is shutting down.", "Try again later.")
        loop = asyncio.get_running_loop()
        job = _Job(op, loop, loop.create_future(), after)
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def read(self, op: Operation[T]) -> T:
        """Run `op` on a connection of its own, in a snapshot."""
        return await anyio.to_thread.run_sync(self._read, op, limiter=self._readers)

    def _read(self, op: Operation[T]) -> T:
        with _database_errors(), self._engine.connect() as conn, _transaction(conn, "BEGIN"):
            return op(conn)

    def _upgrade(self) -> None:
        from gateway.db.migrate import upgrade

        with _database_errors(), self._engine.connect() as conn, _transaction(conn, "BEGIN IMMEDIATE"):
            upgrade(conn)

    # -- the writer thread

    def _write_loop(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._jobs.get()]
            while len(batch) < MAX_BATCH and not self._jobs.empty():
                batch.append(self._jobs.get())
            jobs = [job for job in batch if job is not None]
            stopping = len(jobs) < len(batch)
            if jobs:
                self._commit(jobs)
                _settle(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            self._run(jobs)
        except BaseException as exc:
            if len(jobs) == 1:
                jobs[0].error = exc
                return
            for job in jobs:
                self._commit([job])

    def _run(self, jobs: list[_Job]) -> None:
        with _database_errors(), self._engine.connect() as conn, _transaction(conn, "BEGIN IMMEDIATE"):
            for job in jobs:
                job.result = job.op(conn)


def _settle(jobs: list[_Job]) -> None:
    def settle(mine: list[_Job]) -> None:
        for job in mine:
            if job.error is None and job.after is not None:
                job.after(job.result)
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, mine in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, mine)


@contextmanager
def _transaction(conn: Connection, begin: str) -> Iterator[None]:
    conn.exec_driver_sql(begin)
    try:
        yield
    except BaseException:
        with suppress(OperationalError):  # when its disk is full SQLite rolls back by itself
            conn.exec_driver_sql("ROLLBACK")
        raise
    conn.exec_driver_sql("COMMIT")


@contextmanager
def _database_errors() -> Iterator[None]:
    """Translate the driver's errors at the border. Our own pass."""
    try:
        yield
    except SwitchboardError:
        raise
    except OperationalError as exc:
        raise Unavailable(f"The database did not answer: {exc.orig}", "Look at its disk and try again.") from exc
    except DBAPIError as exc:
        if isinstance(exc.orig, sqlite3.DatabaseError) and not isinstance(exc.orig, sqlite3.IntegrityError):
            raise Unavailable(f"The database failed: {exc.orig}", "Look at its disk and try again.") from exc
        raise


def _sqlite_engine(url: str) -> Engine:
    Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
    # AUTOCOMMIT: transactions are begun and ended by `_transaction`, not by the driver's guesses.
    engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=READERS + 2, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine
