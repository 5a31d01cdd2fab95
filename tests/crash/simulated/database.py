"""A database of simulated hosts: real SQL on SQLite in memory, behind delays and faults that are drawn.

What one host submits may be carried out although the host stands still or dies meanwhile, and its answers come in order
but perhaps very late. An operation may be carried out twice, the first time in a transaction that is rolled back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from random import Random
from typing import Any

import anyio
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from gateway.db.jobs import Heard, Job, Operation, T, transaction
from gateway.db.migrate import upgrade
from gateway.errors import Fenced, Unavailable
from tests.crash.simulated.loop import HOST, Host, SimulatedLoop

SETTLED_SECONDS = 5.0  # for so long after a restart nobody is believed to be dead
TABLES = ("event", "outbox", "turn", "task", "session", "worker")


class Memory:
    """A new database with today's schema, for one schedule after another."""

    def __init__(self) -> None:
        self.conn = _migrated()

    def serve(self, loop: SimulatedLoop, random: Random) -> Server:
        return Server(self.conn, loop, random)

    def close(self) -> None:
        self.conn.close()


def _migrated() -> Connection:
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None),
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
    )
    conn = engine.connect()
    conn.exec_driver_sql("PRAGMA foreign_keys=ON")
    with transaction(conn.exec_driver_sql, "BEGIN"):
        upgrade(conn)
    return conn


class Server:
    """The database that all hosts share."""

    def __init__(self, conn: Connection, loop: SimulatedLoop, random: Random) -> None:
        self.conn, self.loop, self.random = conn, loop, random
        self.backends: list[Backend] = []
        self.down = False
        self.up_since = -SETTLED_SECONDS
        self.faults = True  # delays and repetitions out of the ordinary
        with transaction(conn.exec_driver_sql, "BEGIN"):
            for table in TABLES:
                conn.exec_driver_sql(f"DELETE FROM {table}")

    def rows(self, statement: str) -> Sequence[Any]:
        return self.conn.exec_driver_sql(statement).all()

    def backend(self, host: Host) -> Backend:
        return Backend(self, host)

    async def close(self) -> None: ...

    def end(self) -> None: ...

    def patched(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stop(self) -> None:
        self.down = True

    def start(self) -> None:
        self.down, self.up_since = False, self.loop.time()

    def delay(self) -> float:
        """Seconds until a request has arrived, or its answer."""
        drawn = self.random.random()
        if not self.faults or drawn < 0.9:
            return self.random.uniform(0.0001, 0.003)
        return self.random.uniform(0.003, 0.3) if drawn < 0.997 else self.random.uniform(0.3, 8)

    def run(self, host: Host, op: Operation[T]) -> T:
        """Carry out an operation that a host has asked for. Raises Unavailable, and what it raises."""
        if self.down:
            raise Unavailable("The database did not answer.", "Try again.")
        token = HOST.set(host)  # whose clock it reads
        try:
            if self.faults and self.random.random() < 0.03:
                with _rolled_back(self.conn):
                    op(self.conn)
            with transaction(self.conn.exec_driver_sql, "BEGIN"):
                return op(self.conn)
        finally:
            HOST.reset(token)


class _Back(Exception):
    pass


@contextmanager
def _rolled_back(conn: Connection) -> Iterator[None]:
    try:
        with transaction(conn.exec_driver_sql, "BEGIN"):
            yield
            raise _Back
    except _Back:
        pass


class Backend:
    """One host's connection to the server; in place of `gateway.db.sqlite.Sqlite`."""

    def __init__(self, server: Server, host: Host) -> None:
        self.server, self.host = server, host
        self.heard: Heard = lambda words: None
        self.names: set[str] = set()
        self.hidden = False  # seems dead to others, though it is not
        self.buried = False
        self._answered_at = 0.0
        server.backends.append(self)

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def dies(self) -> None: ...

    def stands(self) -> None: ...

    def bury(self) -> None:
        """From here on its code runs to its end, on a database that refuses all."""
        self.buried = True

    def submit(self, job: Job, beside: bool) -> None:
        sent = self.server.random.random() < 0.5  # else it stands still with its host
        loop, world = self.server.loop, self.server.loop.world
        loop.call_later(self.server.delay(), self._carry_out, job, context=(world if sent else self.host).context())

    def _carry_out(self, job: Job) -> None:
        try:
            if self.buried:
                raise Fenced("This host is no more.")
            job.result = self.server.run(self.host, job.op)
        except Exception as exc:
            job.error = exc
        loop = self.server.loop
        self._answered_at = max(self._answered_at, loop.time() + self.server.delay())
        loop.call_at(self._answered_at, job.settle, context=self.host.context())

    async def read(self, op: Operation[T], snapshot: bool) -> T:
        await anyio.sleep(self.server.delay())
        if self.buried:
            raise Fenced("This host is no more.")
        found = self.server.run(self.host, op)
        await anyio.sleep(self.server.delay())
        return found

    def tell(self, topic: str, detail: str) -> None:
        for other in self.server.backends:
            if other is not self and self.server.random.random() < 0.8:
                words = [f"{topic}@{detail}"] if self.server.random.random() < 0.95 else []
                context = other.host.context()
                self.server.loop.call_later(self.server.delay(), lambda o=other, w=words: o.heard(w), context=context)

    async def appear(self, name: str) -> None:
        self.names.add(name)

    async def alive(self, names: Sequence[str]) -> set[str]:
        await anyio.sleep(self.server.delay())
        if self.server.down or self.buried:
            raise Unavailable("The database did not answer.", "Try again.")
        if self.server.loop.time() < self.server.up_since + SETTLED_SECONDS:
            return set(names)
        seen = [other for other in self.server.backends if not other.host.dead and not other.hidden]
        return {name for other in seen for name in other.names} & set(names)
