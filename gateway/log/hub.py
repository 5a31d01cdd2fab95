"""Wakes the readers of a session when something was committed, and keeps its last batches at hand.

What is here is never the truth: a reader takes a batch only if it follows its own position exactly, else it reads the
log. A session nobody reads costs nothing. What was committed in a row is handed out as one batch, the same object to
all who stand at the same place; many readers are woken at most once in `TICK` seconds: fan-out costs per write.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from gateway.log.rows import Batch, Position

KEEP_ROWS = 4096
KEEP_CHARS = 4 * 2**20
ARTIFACT_CHARS = 64 * 1024  # what readers make of an artifact may hold a piece of its file
RUN_ROWS = 1000  # of batches handed out as one
MANY = 16  # readers of one session, from which on they are woken in ticks
TICK = 0.02


@dataclass(slots=True)
class Asked:
    """A page somebody reads. Not `known` when answered: who asked went away before."""

    answered: anyio.Event = field(default_factory=anyio.Event)
    known: bool = False
    batch: Batch | None = None


class Channel:
    """The readers of one session."""

    def __init__(self) -> None:
        self.readers = 0
        self.changed = anyio.Event()
        self.asked: dict[Position, Asked] = {}  # pages of the log on their way
        self._recent: OrderedDict[Position, Batch] = OrderedDict()
        self._runs: dict[Position, Batch] = {}
        self._rows = self._chars = 0
        self._end: Position | None = None
        self._served_at = 0.0
        self._missed = False  # something came while readers were being served
        self._tick: asyncio.TimerHandle | None = None

    def following(self, position: Position) -> Batch | None:
        """What was published after a position, as far as it is at hand."""
        first = self._recent.get(position)
        if first is None or first.after not in self._recent:
            return first
        if position not in self._runs:
            self._runs[position] = self._joined(first)
        return self._runs[position]

    def _joined(self, first: Batch) -> Batch:
        run = Batch(first.session_id, first.before, list(first.rows), dict(first.shared))
        while (following := self._recent.get(run.after)) is not None and len(run.rows) < RUN_ROWS:
            run.rows += following.rows
            run.shared |= following.shared
        return run

    def ends_at(self, position: Position) -> bool:
        """Whether nothing is known that follows a position."""
        return position == self._end

    def goes_past(self, position: Position) -> bool:
        return self._end is not None and self._end > position

    def publish(self, batch: Batch) -> None:
        self.keep(batch)
        self.reaches(batch.after)

    def reaches(self, end: Position) -> None:
        """The log is known to reach so far: whoever wrote it, the readers have to read it."""
        if self._end is None or end > self._end:
            self._end = end
            self._wake()

    def keep(self, batch: Batch) -> None:
        """Have a batch at hand for others who come to its place."""
        if batch.before in self._recent:
            self._drop(batch.before)
        self._recent[batch.before] = batch
        self._runs.clear()
        self._rows += len(batch.rows)
        self._chars += _size(batch)
        while self._rows > KEEP_ROWS or self._chars > KEEP_CHARS:
            self._drop(next(iter(self._recent)))

    def _drop(self, position: Position) -> None:
        old = self._recent.pop(position)
        self._rows -= len(old.rows)
        self._chars -= _size(old)

    def _wake(self) -> None:
        """Few readers at once; many a while after the last of them has been served, so that what comes then is more."""
        self._missed = True
        if self.readers <= MANY:
            self.wake()
        elif self._tick is None:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_at(max(self._served_at + TICK, loop.time()), self._wake_many)

    def _wake_many(self) -> None:
        loop = asyncio.get_running_loop()
        self.wake()
        loop.call_soon(self._served, loop)  # behind those who were woken

    def _served(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tick, self._served_at = None, loop.time()
        if self._missed:
            self._wake()

    def wake(self) -> None:
        self._missed = False
        self.changed.set()
        self.changed = anyio.Event()


def _size(batch: Batch) -> int:
    return sum(len(row.body) + (ARTIFACT_CHARS if row.type == "artifact" else 0) for row in batch.rows)


class Hub:
    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}

    def publish(self, batch: Batch) -> None:
        channel = self._channels.get(batch.session_id)
        if channel is not None and batch.rows:
            channel.publish(batch)

    def reaches(self, session_id: str, end: Position) -> None:
        """Somebody else is said to have written up to `end`."""
        channel = self._channels.get(session_id)
        if channel is not None:
            channel.reaches(end)

    def wake(self) -> None:
        """Have every reader look around."""
        for channel in self._channels.values():
            channel.wake()

    def sessions(self) -> list[str]:
        """Those that are read."""
        return list(self._channels)

    def readers(self, session_id: str) -> int:
        channel = self._channels.get(session_id)
        return channel.readers if channel is not None else 0

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
