"""What both databases share: operations on their way into a transaction, and how they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

T = TypeVar("T")
Operation = Callable[[Connection], T]


@dataclass(slots=True)
class Job:
    """One operation that waits for its commit. Settled on the loop it came from."""

    op: Operation[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    after: Callable[[Any], None] | None = None
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        if self.error is None and self.after is not None:
            self.after(self.result)
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


Heard = Callable[[Sequence[str]], None]


class Backend(Protocol):
    """One kind of database, behind `Database`."""

    heard: Heard

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def submit(self, job: Job, beside: bool) -> None: ...

    async def read(self, op: Operation[T], snapshot: bool) -> T: ...

    def tell(self, topic: str, detail: str) -> None: ...

    async def appear(self, name: str) -> None: ...

    async def alive(self, names: Sequence[str]) -> set[str]: ...


def run_all(conn: Connection, jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.result = job.op(conn)


@contextmanager
def transaction(say: Callable[[str], object], begin: str) -> Iterator[None]:
    """Begun and ended in plain sight, on a connection that is in autocommit mode: no driver guesses. `say` runs a statement."""
    say(begin)
    try:
        yield
    except BaseException:
        with suppress(
            DBAPIError, PendingRollbackError
        ):  # the connection is gone; or the disk is full, and SQLite rolled back by itself
            say("ROLLBACK")
        raise
    say("COMMIT")
