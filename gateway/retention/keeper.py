"""Retention: what closed sessions did goes from the database into archive files, and nothing of it is lost on the way.

A session is closed when nothing of it runs, waits or is owed to anybody, and it has been so for `retention_days`. It can
still be read, and one that is not archived for good goes on with its next message. For each such session:

    freeze    its tasks are kept as they are, for GetTask and for the snapshot that stands for the events
    write     the events after the last floor go into a file, but for the last one: it says how the session ended
    raise     one transaction: the session's floor, and a row that names the file; only if nothing happened meanwhile
    prune     the rows below the floor are deleted, 5,000 a transaction

Killed before `raise`, the file is written again, the same or another; killed after it, what is left is pruned by the
next one. Several gateways may do it at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, tuple_, update

from gateway.clock import now_us
from gateway.db.engine import Database
from gateway.deliver.models import Outbox
from gateway.errors import SwitchboardError
from gateway.log.models import EventRow, Session, Task, Turn
from gateway.log.rows import Position, Row
from gateway.log.store import locked, read
from gateway.retention import segments
from gateway.retention.models import Archived
from gateway.retention.usage import Usage
from gateway.settings import Settings
from gateway.turns.queue import TERMINAL

SWEEP_SECONDS = 600.0
PRUNE_ROWS = 5000  # of one transaction
PAGE = 1000
DAY_US = 86_400_000_000
CLOSED = ("idle", "failed", "archived")

_session, _task, _turn = Session.__table__, Task.__table__, Turn.__table__  # type: ignore[attr-defined]
_event, _outbox, _archive = EventRow.__table__, Outbox.__table__, Archived.__table__  # type: ignore[attr-defined]

log_ = structlog.get_logger("switchboard.retention")


@dataclass(slots=True)
class Piece:
    """What of a session goes into the archive now."""

    session_id: str
    updated_at: int  # as the session was seen
    floor: int
    last: int
    events: int = 0
    message: str | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def name(self) -> str:
        return segments.name_of(self.session_id, self.floor + 1, self.last)

    def count(self, rows: list[Row]) -> None:
        self.events += len(rows)
        for row in rows:
            if row.type == "usage":
                self.usage.add(row.body)
            elif row.type == "message" and self.message is None:
                self.message = row.body


class Keeper:
    """`freeze` keeps the tasks of a session as they are."""

    def __init__(self, database: Database, settings: Settings, freeze: Callable[[str], Awaitable[None]]) -> None:
        self._database, self._freeze = database, freeze
        self.directory, self._after_us = settings.archive_files, round(settings.retention_days * DAY_US)

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        while self._after_us:
            try:
                await self.sweep()
            except (SwitchboardError, OSError) as exc:
                log_.error("retention_failed", error=str(exc))
            await anyio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Take every session that is due; how many."""
        for session_id, last in await self._database.read(_unpruned):
            await self.prune(session_id, last)
        taken, after, before = 0, (0, ""), now_us() - self._after_us
        while due := await self._database.read(lambda conn, after=after: _due(conn, before, after)):  # type: ignore[misc]
            for updated_at, session_id in due:
                taken += await self._taken(session_id)
                after = updated_at, session_id
        return taken

    async def _taken(self, session_id: str) -> bool:
        """Take one session; one that is damaged keeps neither the others nor the gateway from their work."""
        try:
            return await self.take(session_id)
        except (SwitchboardError, OSError):
            raise
        except Exception:
            log_.exception("session_not_archived", session=session_id)
            return False

    async def take(self, session_id: str) -> bool:
        """Take one session, if it is closed. Raises OSError where its file cannot be written."""
        began = time.monotonic()
        await self._freeze(session_id)
        piece = await self._database.read(lambda conn: _piece(conn, session_id))
        if piece is None:
            return False
        await self.write(piece)
        if not await self._database.write(lambda conn: raise_floor(conn, piece)):
            return False
        await self.prune(session_id, piece.last)
        ms = round((time.monotonic() - began) * 1000)
        log_.info("session_archived", session=session_id, events=piece.events, file=piece.name, ms=ms)
        return True

    async def write(self, piece: Piece) -> None:
        """Write the file of a piece."""
        writer = await anyio.to_thread.run_sync(segments.Writer, self.directory, piece.name)
        position = Position(piece.floor, 2**31)
        try:
            while rows := await self._database.read(lambda conn, at=position: read(conn, piece.session_id, at, PAGE)):  # type: ignore[misc]
                mine = [row for row in rows if row.seq <= piece.last]
                piece.count(mine)
                await anyio.to_thread.run_sync(writer.add, mine)
                position = rows[-1].position
                if len(mine) < len(rows):
                    break
            await anyio.to_thread.run_sync(writer.close)
        except BaseException:
            writer.abandon()
            raise

    async def prune(self, session_id: str, last: int) -> None:
        while await self._database.write(lambda conn: _prune(conn, session_id, last)):
            pass


def _closed() -> tuple[ColumnElement[bool], ...]:
    """What is true of a session that nothing happens to any more, unless somebody begins it anew."""
    works = exists().where(_turn.c.session_id == _session.c.id, _turn.c.state != "ended")
    goes_on = exists().where(_task.c.session_id == _session.c.id, _task.c.state.not_in(TERMINAL))
    owes = exists().where(_outbox.c.session_id == _session.c.id, _outbox.c.settled_at.is_(None))
    over = (_session.c.status == "archived") | ~goes_on
    return _session.c.status.in_(CLOSED), ~works, over, ~owes


def _due(conn: Connection, before: int, after: tuple[int, str]) -> list[tuple[int, str]]:
    """A page of sessions that closed before a time and did something since they were last taken."""
    taken = exists().where(_archive.c.session_id == _session.c.id, _archive.c.created_at >= _session.c.updated_at)
    key = (_session.c.updated_at, _session.c.id)
    query = select(*key).where(*_closed(), ~taken, _session.c.updated_at <= before, tuple_(*key) > after)
    return [(row.updated_at, row.id) for row in conn.execute(query.order_by(*key).limit(100))]


def _piece(conn: Connection, session_id: str) -> Piece | None:
    row = conn.execute(select(_session).where(_session.c.id == session_id, *_closed())).first()
    last = conn.execute(select(func.max(_event.c.seq)).where(_event.c.session_id == session_id)).scalar()
    if row is None or last is None or last - 1 <= row.floor_seq:
        return None
    return Piece(session_id, row.updated_at, row.floor_seq, last - 1)


def raise_floor(conn: Connection, piece: Piece) -> bool:
    """The moment from which a piece is in the archive; False if something has happened to the session meanwhile."""
    locked(conn, piece.session_id)
    same = (_session.c.id == piece.session_id, _session.c.floor_seq == piece.floor, _session.c.updated_at == piece.updated_at)
    unkept = select(_task.c.id).where(_task.c.session_id == piece.session_id, _task.c.snapshot.is_(None))
    if conn.execute(unkept).first() is not None:
        return False
    if not conn.execute(update(_session).where(*same, *_closed()).values(floor_seq=piece.last)).rowcount:
        return False
    row = {"session_id": piece.session_id, "first_seq": piece.floor + 1, "last_seq": piece.last, "path": piece.name}
    told = {"events": piece.events, "message": piece.message, "usage": piece.usage.to_json()}
    conn.execute(insert(_archive), {**row, **told, "created_at": now_us()})
    conn.execute(delete(_outbox).where(_outbox.c.session_id == piece.session_id))  # settled, and made from what is gone now
    return True


def _unpruned(conn: Connection) -> list[tuple[str, int]]:
    rows = conn.execute(select(_archive.c.session_id, _archive.c.last_seq).where(_archive.c.pruned_at.is_(None)))
    return [(row.session_id, row.last_seq) for row in rows]


def _prune(conn: Connection, session_id: str, last: int) -> bool:
    """Delete some of what the archive has, the oldest first; whether there may be more."""
    mine = (_event.c.session_id == session_id, _event.c.seq <= last)
    chosen = select(_event.c.pos).where(*mine).order_by(_event.c.seq, _event.c.sub).limit(PRUNE_ROWS)
    if conn.execute(delete(_event).where(_event.c.pos.in_(chosen))).rowcount == PRUNE_ROWS:
        return True
    done = (_archive.c.session_id == session_id, _archive.c.last_seq <= last, _archive.c.pruned_at.is_(None))
    conn.execute(update(_archive).where(*done).values(pruned_at=now_us()))
    return False


def pieces(conn: Connection, session_id: str) -> list[Any]:
    """What of a session is in the archive, oldest first."""
    return list(conn.execute(select(_archive).where(_archive.c.session_id == session_id).order_by(_archive.c.first_seq)))
