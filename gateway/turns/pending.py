"""Events that were read and wait for the next commit: whatever arrives during one commit is the next."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from adapters.events import Event

LIMIT = 4096  # events; then reading waits, so that memory stays flat


class Pending:
    def __init__(self) -> None:
        self._events: list[Event] = []
        self._closed = False
        self._more = anyio.Event()
        self._less = anyio.Event()

    def add(self, events: Sequence[Event]) -> None:
        self._events += events
        self._more.set()

    async def room(self) -> None:
        """Wait until there is room."""
        while len(self._events) > LIMIT:
            self._less = anyio.Event()
            await self._less.wait()

    async def take(self) -> list[Event]:
        """Everything that waits, as soon as there is something; [] when closed and empty."""
        while not self._events and not self._closed:
            self._more = anyio.Event()
            await self._more.wait()
        events, self._events = self._events, []
        self._less.set()
        return events

    def close(self) -> None:
        self._closed = True
        self._more.set()
