"""SQLite: one writer thread that commits whatever arrived during its last commit; reads beside it, in snapshots.

WAL and `synchronous=FULL`: NORMAL loses acknowledged rows at a power loss.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from gateway.db.jobs import Heard, Job, Operation, T, run_all, transaction
from gateway.db.migrate import upgrade
from gateway.db.presence import Presence
from gateway.errors import SwitchboardError, Unavailable

MAX_BATCH = 256  # operations of one commit
READERS = 4  # threads that read
LOOK_SECONDS = 0.05  # how soon what other processes write is noticed
WAL_TRIES = 40


class Sqlite:
    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: anyio.CapacityLimiter | None = None
        self._presence = Presence(Path(make_url(url).database or "").resolve().parent / "workers")
        self._loop: asyncio.AbstractEventLoop | None = None
        self.heard: Heard = lambda words: None

    async def start(self) -> None:
        self._readers = anyio.CapacityLimiter(READERS)
        self._loop = asyncio.get_running_loop()
        writer = await anyio.to_thread.run_sync(self._open)
        self._thread = threading.Thread(target=self._write_loop, args=(writer,), name="switchboard-writer", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            await anyio.to_thread.run_sync(self._thread.join)
            self._thread = None
        self._presence.leave()
        self._engine.dispose()

    def submit(self, job: Job, beside: bool) -> None:
        self._jobs.put(job)

    async def read(self, op: Operation[T], snapshot: bool) -> T:
        return await anyio.to_thread.run_sync(self._read, op, snapshot, limiter=self._readers)

    def _read(self, op: Operation[T], snapshot: bool) -> T:
        with (
            _errors(),
            self._engine.connect() as conn,
            transaction(conn.exec_driver_sql, "BEGIN") if snapshot else nullcontext(),
        ):
            return op(conn)

    def _open(self) -> Connection:
        """The writer's connection, once the schema is up to date."""
        with _errors():
            conn = self._engine.connect()
            try:
                with transaction(conn.exec_driver_sql, "BEGIN IMMEDIATE"):
                    upgrade(conn)
            except BaseException:
                conn.close()
                raise
            return conn

    # -- other processes

    def tell(self, topic: str, detail: str) -> None:
        """They look at the file."""

    async def appear(self, name: str) -> None:
        self._presence.appear(name)

    async def alive(self, names: Sequence[str]) -> set[str]:
        return self._presence.alive(names)

    # -- the writer thread

    def _write_loop(self, conn: Connection) -> None:
        stopping, version = False, _version(conn)
        while not stopping:
            batch = self._batch()
            jobs = [job for job in batch if job is not None]
            stopping = len(jobs) < len(batch)
            if jobs:
                self._commit(conn, jobs)
                _settle(jobs)
            before, version = version, _version(conn)
            if version != before:
                self._hear()
        conn.close()

    def _batch(self) -> list[Job | None]:
        """What waits; [] when nothing has come for a while."""
        batch: list[Job | None] = []
        with suppress(Empty):
            batch.append(self._jobs.get(timeout=LOOK_SECONDS))
            while len(batch) < MAX_BATCH:
                batch.append(self._jobs.get_nowait())
        return batch

    def _hear(self) -> None:
        """Another process has written."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.heard, [])

    def _commit(self, conn: Connection, jobs: list[Job]) -> None:
        try:
            with _errors(), transaction(conn.exec_driver_sql, "BEGIN IMMEDIATE"):
                run_all(conn, jobs)
        except BaseException as exc:
            if len(jobs) == 1:
                jobs[0].error = exc
                return
            for job in jobs:
                self._commit(conn, [job])


def _version(conn: Connection) -> int:
    """A number that changes when another process has committed; our own commits on this connection do not change it."""
    with suppress(DBAPIError):
        version: int = conn.exec_driver_sql("PRAGMA data_version").scalar_one()
        return version
    return 0


def _settle(jobs: list[Job]) -> None:
    def settle(mine: list[Job]) -> None:
        for job in mine:
            job.settle()

    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, mine in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, mine)


@contextmanager
def _errors() -> Iterator[None]:
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


def _engine(url: str) -> Engine:
    Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=READERS + 2, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}").close()
        _write_ahead(connection)

    return engine


def _write_ahead(connection: Any) -> None:
    """Of several that do this at once to a new database all but one are told at once that it is locked."""
    for left in range(WAL_TRIES, 0, -1):
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.OperationalError:
            if left == 1:
                raise
            time.sleep(0.05)
