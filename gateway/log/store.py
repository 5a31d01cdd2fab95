"""The event log: append under a fence, read by cursor. Only the runner appends runtime events; only `tail` hands them out.

A position is `(seq, sub)`. What callers may read has `sub` 0 and a gapless `seq`; an internal row takes the `seq` it
follows and the next `sub`, so that nobody can count what they may not see. The last position comes from the unique
index, never from a counter row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import anyio
from sqlalchemy import BigInteger, BindParameter, Connection, bindparam, insert, select, tuple_

from adapters.events import Event
from gateway.clock import new_id, now_us
from gateway.db.engine import Database
from gateway.errors import Fenced
from gateway.log.hub import Hub
from gateway.log.models import EventRow, Session
from gateway.log.rows import Batch, Entry, Position, Row

MAX_CHUNK = 8 * 1024  # characters up to which adjacent chunks that wait together become one row


_dumps = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(body: Any) -> str:
    """JSON as it is stored. What it cannot hold: lone surrogates become replacement characters, NaN becomes null."""
    try:
        text = _dumps(body)
    except ValueError:
        text = _dumps(_finite(body))
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def entries(events: Iterable[Event], *, task_id: str | None, turn_id: str | None) -> list[Entry]:
    """Events as entries, adjacent chunks merged up to `MAX_CHUNK` characters."""
    out: list[Entry] = []
    at = now_us()
    for event in merged(events):
        out.append(Entry(event.type, event.level, event.actor, encode(event.body), task_id, turn_id, at))
    return out


def merged(events: Iterable[Event]) -> Iterable[Event]:
    """Join runs of `chunk` (and of `thinking`) while they are short; order and text stay."""
    pending: list[str] = []
    size = 0
    last: Event | None = None
    for event in events:
        mergeable = event.type in ("chunk", "thinking")
        text = event.body["text"] if mergeable else ""
        if last is not None and (not mergeable or event.type != last.type or size + len(text) > MAX_CHUNK):
            yield _joined(last, pending)
            pending, size, last = [], 0, None
        if mergeable:
            pending.append(text)
            size += len(text)
            last = last or event
        else:
            yield event
    if last is not None:
        yield _joined(last, pending)


def _joined(first: Event, texts: list[str]) -> Event:
    return first if len(texts) == 1 else Event(first.type, first.level, {"text": "".join(texts)}, first.actor)


_S = Session.__table__.c  # type: ignore[attr-defined]
_LOCK = select(_S.fence).where(_S.id == bindparam("session_id")).with_for_update(key_share=True)
_E = EventRow.__table__.c  # type: ignore[attr-defined]
_LAST = select(_E.seq, _E.sub).where(_E.session_id == bindparam("session_id")).order_by(_E.seq.desc(), _E.sub.desc()).limit(1)
_INSERT = insert(EventRow.__table__)  # type: ignore[attr-defined]
_COLUMNS = [_E[name] for name in Row._fields]
_AFTER: list[BindParameter[int]] = [bindparam("seq", type_=BigInteger), bindparam("sub", type_=BigInteger)]
_READ = (
    select(*_COLUMNS)
    .where(_E.session_id == bindparam("session_id"), tuple_(_E.seq, _E.sub) > tuple_(*_AFTER))
    .order_by(_E.seq, _E.sub)
    .limit(bindparam("limit"))
)


def locked(conn: Connection, session_id: str, fence: int | None = None) -> int | None:
    """Lock a session's row to the end of the transaction, so that nobody else writes to the session; answers its fence.

    Whatever changes a session, its tasks, turns or log beside other operations does this first. Raises Fenced.
    """
    found: int | None = conn.execute(_LOCK, {"session_id": session_id}).scalar()
    if fence is not None and found != fence:
        raise Fenced(f"Fence {fence} of session {session_id!r} is old.")
    return found


def append(conn: Connection, session_id: str, new: Sequence[Entry], fence: int | None = None) -> Batch:
    """Number and insert `new` at the end of the session's log.

    Raises Fenced, in the same transaction, when `fence` is no longer the session's: a superseded runner writes nothing.
    """
    locked(conn, session_id, fence)
    return extend(conn, session_id, new)


def extend(conn: Connection, session_id: str, new: Sequence[Entry], *, first: bool = False) -> Batch:
    """The same for who has locked the session already, or has just made it (`first`)."""
    last = None if first else conn.execute(_LAST, {"session_id": session_id}).first()
    before = Position(last[0], last[1]) if last else Position(0, 0)
    rows, (seq, sub) = [], before
    for entry in new:
        seq, sub = (seq, sub + 1) if entry.level == "internal" else (seq + 1, 0)
        rows.append(Row(session_id, seq, sub, new_id("evt"), entry.task_id, entry.turn_id, *entry[:4], entry.created_at))
    if rows:
        conn.execute(_INSERT, [row._asdict() for row in rows])
    return Batch(session_id, before, rows)


def read(conn: Connection, session_id: str, after: Position, limit: int = 1000) -> list[Row]:
    """The rows after a position, in order, at most `limit`."""
    found = conn.execute(_READ, {"session_id": session_id, "seq": after.seq, "sub": after.sub, "limit": limit})
    return [Row(*row) for row in found]


class Log:
    """The log of one gateway: its database, the hub that wakes its readers, and what else goes with an append.

    `within` is called with every batch in the transaction that appends it, `after` once the batch is durable.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.hub = Hub()
        self.missed = anyio.Event()  # others wrote, and nobody knows where
        self.left = False  # this process is about to stop
        self.within: list[Callable[[Connection, Batch], None]] = []
        self.after: list[Callable[[Batch], None]] = [self.hub.publish]

    async def write(self, op: Callable[[Connection], Sequence[Batch]], *, beside: bool = False) -> Sequence[Batch]:
        """Run an operation that appends, and wake the readers once it is durable. `beside` as in `Database.write`."""

        def with_the_rest(conn: Connection) -> Sequence[Batch]:
            batches = op(conn)
            self.join(conn, batches)
            return batches

        return await self.database.write(with_the_rest, self.told, beside=beside)

    def join(self, conn: Connection, batches: Sequence[Batch]) -> None:
        """What else goes into the transaction of an append; for who does not `write`."""
        for batch in batches:
            for call in self.within:
                call(conn, batch)

    def told(self, batches: Sequence[Batch]) -> None:
        """Batches are durable."""
        for batch in batches:
            for call in self.after:
                call(batch)

    def leave(self) -> None:
        """This process is about to stop: who waits here for something to happen is told what there is."""
        self.left = True
        self.hub.wake()

    def look(self) -> None:
        """Have the sessions that are read looked at now: others have written, and nobody knows where."""
        self.missed.set()

    async def read(self, session_id: str, after: Position, limit: int = 1000) -> list[Row]:
        return await self.database.read(lambda conn: read(conn, session_id, after, limit), snapshot=False)
