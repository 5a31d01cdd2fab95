"""The database, SQLite or PostgreSQL: reads run beside one another, writes are group-committed.

An operation is a plain function of a SQLAlchemy `Connection`. `write` runs it inside a transaction together with
whatever else arrived during the last commit, and answers only after the commit: durable before visible. Operations
run one after another, in every process of the installation, so what one reads stays true until it has written. One
that locks what it needs, such as the rows of one session (`log.store.locked`), may say `beside`: then PostgreSQL runs
it beside others. Any operation may run again if a neighbour in its batch failed or the database asks for it, so it
must do nothing but talk to its connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence

import anyio
from sqlalchemy import make_url

from gateway.db.jobs import Backend, Heard, Job, Operation, T
from gateway.errors import Unavailable, UsageError


class Database:
    """One database, opened by `start` and closed by `aclose`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._backend = _backend(url)
        self._closed = False

    @property
    def name(self) -> str:
        """The URL without its password, for the log."""
        return make_url(self.url).render_as_string()

    async def start(self) -> None:
        """Bring the schema up to date. Raises Unavailable if the database cannot be used."""
        await self._backend.start()

    async def aclose(self) -> None:
        """Commit what was accepted, then close."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._backend.aclose()

    async def write(self, op: Operation[T], after: Callable[[T], None] | None = None, *, beside: bool = False) -> T:
        """Run `op` in a transaction and return its result once it is durable.

        `after` is called on the event loop with the result right after the commit, in commit order, even if the
        caller was cancelled meanwhile. Raises what `op` raises; Unavailable when the database refuses (down, locked, disk
        full): then nothing was stored; OutcomeUnknown when it was lost in the middle of the commit and did not come back: then
        `op` may be stored, and `after` is not called.
        """
        if self._closed:
            raise Unavailable("The gateway is shutting down.", "Try again later.")
        loop = asyncio.get_running_loop()
        job = Job(op, loop, loop.create_future(), after)
        self._backend.submit(job, beside)
        result: T = await job.future
        return result

    async def read(self, op: Operation[T], *, snapshot: bool = True) -> T:
        """Run `op` on a connection of its own, in a snapshot; without one each statement sees what is there when it runs."""
        return await self._backend.read(op, snapshot)

    # -- other processes on the same database

    def hear(self, heard: Heard) -> None:
        """Have `heard` called with what other processes `tell`; with nothing when something may have been missed."""
        self._backend.heard = heard

    def tell(self, topic: str, detail: str = "") -> None:
        """Hint to the other processes that something was committed; they hear `topic@detail`, or of a topic only the last.

        They may not get it: it is never the data.
        """
        self._backend.tell(topic, detail)

    async def appear(self, name: str) -> None:
        """Be seen alive under a name by every process until this one closes the database or dies."""
        await self._backend.appear(name)

    async def alive(self, names: Sequence[str]) -> set[str]:
        """Which of these are alive, or may be. Raises Unavailable."""
        return await self._backend.alive(names)


def _backend(url: str) -> Backend:
    if re.fullmatch(r"sqlite:///(?!:memory:).+", url):
        from gateway.db.sqlite import Sqlite

        return Sqlite(url)
    if re.fullmatch(r"postgres(ql)?://.+", url):
        from gateway.db.postgres import Postgres

        return Postgres(url)
    raise UsageError(
        f"The database URL {url!r} is not supported.", "Use sqlite:///PATH or postgresql://USER@HOST/NAME, or leave it unset."
    )
