"""Events as callers of the session API get them: encoded once, framed once for all who want the same, in one write a burst.

sse      id: <seq>, data: <event>      `retry:` first, so that an EventSource comes back soon
ndjson   <event>                       an empty line now and then says that the connection is alive
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.clock import iso
from gateway.files.links import Links
from gateway.files.refs import STORED
from gateway.log.rows import Batch, Position, Row
from gateway.log.snapshot import SNAPSHOT
from gateway.log.store import Log, encode
from gateway.log.tail import tail
from gateway.sessions.access import Access
from gateway.sessions.shapes import Artifact, ReadLog
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

    @property
    def levels(self) -> tuple[str, ...]:
        return ("user", "progress") if self.level == "progress" else ("user",)

    def takes(self, event: Told) -> bool:
        if event.type == SNAPSHOT:  # of all that is not there any more
            return True
        return event.level in self.levels and (self.types is None or event.type in self.types)


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


class Teller:
    """Makes events of batches. What it makes holds links to files, so it is made anew when those have another age."""

    def __init__(self, log: Log, links: Links) -> None:
        self.log, self._links = log, links

    @property
    def age(self) -> int:
        return self._links.expires

    async def live(self, session_id: str, after: int, framing: Framing, wanted: Filter, access: Access) -> AsyncIterator[bytes]:
        """Everything after a position, then what comes; ends with the session, or when `access` does."""
        yield framing.opening
        async for batch in access.while_it_holds(tail(self.log, session_id, Position(after))):
            data = self.framed(batch, framing, wanted)
            if data:
                yield data
            if closes(batch):
                return

    async def whole(self, session_id: str, after: int, wanted: Filter) -> AsyncIterator[bytes]:
        """The log as it is, to its end."""
        async for batch in tail(self.log, session_id, Position(after), live=False):
            yield self.framed(batch, NDJSON, wanted)

    def framed(self, batch: Batch, framing: Framing, wanted: Filter) -> bytes:
        key = ("session", framing.media_type, wanted, self.age)
        data: bytes | None = batch.whole.get(key)
        if data is None:
            data = batch.whole[key] = b"".join(framing.frame(event) for event in self.told(batch) if wanted.takes(event))
        return data

    def told(self, batch: Batch) -> list[Told]:
        """What callers may read of a batch."""
        age = self.age
        return [self._told(batch, row, age) for row in batch.rows if row.level != "internal"]

    def _told(self, batch: Batch, row: Row, age: int) -> Told:
        key = ("session", row.seq, age)
        event: Told | None = batch.shared.get(key)
        if event is None:
            event = batch.shared[key] = Told(row.seq, row.type, row.level, self.encoded(row))
        return event

    def encoded(self, row: Row) -> bytes:
        """An event as JSON; its body has been JSON since it was made, but for the files it names."""
        body = row.body if f'"{STORED}"' not in row.body else encode(self._linked(json.loads(row.body)))
        names = f'"id":"{row.id}","type":"{row.type}","level":"{row.level}","actor":"{row.actor}"'
        ids = f'"task_id":{json.dumps(row.task_id)},"turn_id":{json.dumps(row.turn_id or None)}'
        return one_line(f'{{"seq":{row.seq},{names},{ids},"created_at":"{iso(row.created_at)}","body":{body}}}')

    def artifact(self, artifact: Artifact) -> Artifact:
        return artifact.model_copy(update={"parts": self._parts(artifact.parts)})

    def _linked(self, body: dict[str, Any]) -> dict[str, Any]:
        """A body with a URL in the place of each file. Only a part itself is one: what stands within it is somebody's data."""
        made = dict(body)
        for name in ("tasks", "artifacts", "history"):  # of a snapshot
            if name in made:
                made[name] = [self._linked(one) for one in made[name]]
        return made | ({"parts": self._parts(made["parts"])} if "parts" in made else {})

    def _parts(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._link(part) if STORED in part else part for part in parts]

    def _link(self, part: dict[str, Any]) -> dict[str, Any]:
        stored, metadata = part[STORED], part.get("metadata") or {}
        start, size = stored.get("start", 0), stored["size"]
        length = stored.get("end", size) - start
        if length < size:
            metadata = {**metadata, "offset": start, "length": length}
        made = {"url": self._links.url(stored["id"]), "filename": stored["name"], "mediaType": stored["media_type"]}
        return made | {"metadata": {**metadata, "size": size}}


def closes(batch: Batch) -> bool:
    """Whether the session ends with this batch: nothing can come after."""
    last = batch.rows[-1]
    return last.type == "system" and json.loads(last.body).get("kind") == ARCHIVED
