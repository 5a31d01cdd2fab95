"""Wakes the readers of a session when something was committed, and keeps its last batches at hand.

What is here is never the truth: a reader takes a batch only if it follows its own position exactly, else it reads the
log. A session nobody reads costs nothing. Where many read, they are woken together and not more often than every
`TICK_SECONDS`: what a reader costs is the write, not the event (specs/design-notes.md).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from gateway.log.rows import Batch, Position

KEEP_ROWS = 4096
KEEP_CHARS = 4 * 2**20
MANY = 16  # readers
TICK_SECONDS = 0.02


class Channel:
    """The readers of one session."""

    def __init__(self) -> None:
        self.readers = 0
        self.changed = anyio.Event()
        self._recent: OrderedDict[Position, Batch] = OrderedDict()
        self._rows = self._chars = 0
        self._end: Position | None = None
        self._untold: list[Batch] = []

    def since(self, position: Position) -> list[Batch]:
        """The batches that follow a position, without a gap."""
        found = []
        while (batch := self._recent.get(position)) is not None:
            found.append(batch)
            position = batch.after
        return found

    def ends_at(self, position: Position) -> bool:
        """Whether nothing has been told that follows a position."""
        return position == self._end

    def publish(self, batch: Batch) -> None:
        self._untold.append(batch)
        if self.readers < MANY:
            self._tell()
        elif len(self._untold) == 1:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tell)

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for batch in untold:
            self._keep(batch)
        self.changed.set()
        self.changed = anyio.Event()

    def _keep(self, batch: Batch) -> None:
        self._recent[batch.before] = batch
        self._end = batch.after
        self._rows += len(batch.rows)
        self._chars += _size(batch)
        while self._rows > KEEP_ROWS or self._chars > KEEP_CHARS:
            _, old = self._recent.popitem(last=False)
            self._rows -= len(old.rows)
            self._chars -= _size(old)


def _size(batch: Batch) -> int:
    return sum(len(row.body) for row in batch.rows)


class Hub:
    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}

    def publish(self, batch: Batch) -> None:
        channel = self._channels.get(batch.session_id)
        if channel is not None and batch.rows:
            channel.publish(batch)

    @contextmanager
    def subscribe(self, session_id: str) -> Iterator[Channel]:
        channel = self._channels.setdefault(session_id, Channel())
        channel.readers += 1
        try:
            yield channel
        finally:
            channel.readers -= 1
            if not channel.readers:
                self._channels.pop(session_id, None)
