"""A receipt: somebody outside waits until what a runtime said stands in the log, and may write beside it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from sqlalchemy import Connection

from gateway.errors import SwitchboardError

Write = Callable[[Connection], None]


class Receipt:
    """`write` joins the transaction of the events, under their fence; if it raises, none of them is written."""

    def __init__(self, write: Write | None = None) -> None:
        self._write = write
        self._settled = anyio.Event()
        self._cursor = 0
        self._error: SwitchboardError | None = None

    @property
    def is_open(self) -> bool:
        return not self._settled.is_set()

    def join(self, conn: Connection) -> None:
        if self._write is not None:
            self._write(conn)

    def settle(self, cursor: int) -> None:
        """It is durable; the log reaches so far."""
        self._cursor = cursor
        self._settled.set()

    def fail(self, error: SwitchboardError) -> None:
        if self.is_open:
            self._error = error
            self._settled.set()

    async def wait(self) -> int:
        """How far the log reaches, once it is durable. Raises what it failed with."""
        await self._settled.wait()
        if self._error is not None:
            raise self._error
        return self._cursor
