"""Things that wait to be taken all at once: events for the next commit, lines for a process's stdin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")

LIMIT = 4096  # then `room` waits, so that memory stays flat


class Pending(Generic[T]):
    def __init__(self) -> None:
        self._items: list[T] = []
        self._closed = False
        self._more = anyio.Event()
        self._less = anyio.Event()

    def add(self, items: Sequence[T]) -> None:
        if items:
            self._items += items
            self._more.set()

    async def room(self) -> None:
        """Wait until there is room."""
        while len(self._items) > LIMIT:
            self._less = anyio.Event()
            await self._less.wait()

    async def take(self) -> list[T]:
        """Everything that waits, as soon as there is something; [] when closed and empty."""
        while not self._items and not self._closed:
            self._more = anyio.Event()
            await self._more.wait()
        items, self._items = self._items, []
        self._less.set()
        return items

    def close(self) -> None:
        self._closed = True
        self._more.set()
