"""Wakes the readers of a session when something was committed, and keeps its last batches at hand.

What is here is never the truth: a reader takes a batch only if it follows its own position exactly, else it reads the
log. A session nobody reads costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from gateway.log.rows import Batch, Position

KEEP_ROWS = 4096
KEEP_CHARS = 4 * 2**20


class Channel:
    """The readers of one session."""

    def __init__(self) -> None:
        self.readers = 0
        self.changed = anyio.Event()
        self._recent: OrderedDict[Position, Batch] = OrderedDict()
        self._rows = self._chars = 0
        self._end: Position | None = None

    def following(self, position: Position) -> Batch | None:
        return self._recent.get(position)

    def ends_at(self, position: Position) -> bool:
        """Whether nothing has been published that follows a position."""
        return position == self._end

    def publish(self, batch: Batch) -> None:
        self._recent[batch.before] = batch
        self._end = max(self._end or batch.after, batch.after)  # of two at once the later may be told first
        self._rows += len(batch.rows)
        self._chars += _size(batch)
        while self._rows > KEEP_ROWS or self._chars > KEEP_CHARS:
            _, old = self._recent.popitem(last=False)
            self._rows -= len(old.rows)
            self._chars -= _size(old)
        self.changed.set()
        self.changed = anyio.Event()


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
