"""Events as callers of the session API get them: encoded once, framed once for all who want the same, in one write a burst.

sse      id: <seq>, data: <event>      `retry:` first, so that an EventSource comes back soon
ndjson   <event>                       an empty line now and then says that the connection is alive
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.clock import iso
from gateway.log.rows import Batch, Position, Row
from gateway.log.snapshot import SNAPSHOT
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.sessions.shapes import ReadLog
from gateway.turns.queue import ARCHIVED
from gateway.wire import one_line

RETRY_MS = 1000


class Told(NamedTuple):
    """An event as JSON, and what filters look at."""

    seq: int
    type: str
    level: str
    json: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a reader wants."""

    level: str = "progress"
    types: frozenset[str] | None = None

    @classmethod
    def of(cls, asked: ReadLog) -> Filter:
        return cls(asked.level, None if asked.types is None else frozenset(asked.types))

    def takes(self, event: Told) -> bool:
        if event.type == SNAPSHOT:  # of all that is not there any more
            return True
        return (self.level == "progress" or event.level == "user") and (self.types is None or event.type in self.types)


@dataclass(frozen=True, slots=True)
class Framing:
    media_type: str
    opening: bytes
    ping: bytes
    head: bytes
    tail: bytes
    numbered: bool

    def frame(self, event: Told) -> bytes:
        head = self.head % event.seq if self.numbered else self.head
        return head + event.json + self.tail


SSE = Framing("text/event-stream", b"retry: %d\n\n" % RETRY_MS, b": alive\n\n", b"id: %d\ndata: ", b"\n\n", numbered=True)
NDJSON = Framing("application/x-ndjson", b"", b"\n", b"", b"\n", numbered=False)


async def live(
    log: Log, session_id: str, after: int, framing: Framing, wanted: Filter, expired: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Everything after a position, then what comes; ends with the session, or before the first event after `expired`."""
    yield framing.opening
    async for batch in tail(log, session_id, Position(after)):
        if expired():
            return
        data = framed(batch, framing, wanted)
        if data:
            yield data
        if closes(batch):
            return


async def whole(log: Log, session_id: str, after: int, wanted: Filter) -> AsyncIterator[bytes]:
    """The log as it is, to its end."""
    async for batch in tail(log, session_id, Position(after), live=False):
        yield framed(batch, NDJSON, wanted)


def framed(batch: Batch, framing: Framing, wanted: Filter) -> bytes:
    key = ("session", framing.media_type, wanted)
    data: bytes | None = batch.whole.get(key)
    if data is None:
        data = batch.whole[key] = b"".join(framing.frame(event) for event in told(batch) if wanted.takes(event))
    return data


def told(batch: Batch) -> list[Told]:
    """What callers may read of a batch."""
    return [_told(batch, row) for row in batch.rows if row.level != "internal"]


def _told(batch: Batch, row: Row) -> Told:
    key = ("session", row.seq)
    event: Told | None = batch.shared.get(key)
    if event is None:
        event = batch.shared[key] = Told(row.seq, row.type, row.level, encoded(row))
    return event


def encoded(row: Row) -> bytes:
    """An event as JSON; its body has been JSON since it was made."""
    names = f'"id":"{row.id}","type":"{row.type}","level":"{row.level}","actor":"{row.actor}"'
    ids = f'"task_id":{json.dumps(row.task_id)},"turn_id":{json.dumps(row.turn_id or None)}'
    return one_line(f'{{"seq":{row.seq},{names},{ids},"created_at":"{iso(row.created_at)}","body":{row.body}}}')


def closes(batch: Batch) -> bool:
    """Whether the session ends with this batch: nothing can come after."""
    last = batch.rows[-1]
    return last.type == "system" and json.loads(last.body).get("kind") == ARCHIVED
