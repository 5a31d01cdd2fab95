"""A session as lines, read a page at a time: from the archive as far as it went there, then from the log."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import anyio.to_thread
from sqlalchemy import Column, Connection, Table, func, select

from gateway.db.engine import Database
from gateway.errors import Conflict, NotFound
from gateway.files.models import File
from gateway.files.store import Store
from gateway.log.models import EventRow, Session, Task, Turn
from gateway.log.rows import Position, Row
from gateway.log.store import read
from gateway.retention import segments
from gateway.retention.keeper import pieces
from gateway.transfer import journal
from gateway.transfer.lines import FORMAT, Lines, row_of
from registry.models import Agent

PAGE = 1000
PIECE = 192 * 1024  # bytes of a file in one line
BEHIND = 2**31  # a `sub` behind all there are

_session, _task, _turn = Session.__table__, Task.__table__, Turn.__table__  # type: ignore[attr-defined]
_event, _agent, _file = EventRow.__table__, Agent.__table__, File.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Head:
    """What a session is, as it rests."""

    agent: str
    session: dict[str, Any]
    tasks: list[dict[str, Any]]
    turns: list[dict[str, Any]]
    files: list[dict[str, Any]]
    last: int  # of its events


def head(conn: Connection, session_id: str) -> Head:
    """Raises NotFound, and Conflict for a session at work."""
    query = select(_session, _agent.c.name).join_from(_session, _agent, _agent.c.id == _session.c.agent_id)
    row = conn.execute(query.where(_session.c.id == session_id)).mappings().first()
    if row is None:
        raise NotFound(f"There is no session {session_id[:100]!r}.", "Run: switchboard sessions list")
    session = {name: value for name, value in row.items() if name != "name"}
    turns = _of(conn, _turn, session_id, _turn.c.ordinal)
    if any(turn["state"] != "ended" for turn in turns):
        raise Conflict(f"Session {session_id!r} is at work.", f"Wait, or run: switchboard sessions cancel {session_id}")
    tasks = _of(conn, _task, session_id, _task.c.first_seq)
    files = _of(conn, _file, session_id, _file.c.created_at, _file.c.id)
    last = conn.execute(select(func.max(_event.c.seq)).where(_event.c.session_id == session_id)).scalar() or 0
    return Head(row["name"], session, tasks, turns, files, last)


def _of(conn: Connection, table: Table, session_id: str, *order: Column[Any]) -> list[dict[str, Any]]:
    found = conn.execute(select(table).where(table.c.session_id == session_id).order_by(*order))
    return [dict(row) for row in found.mappings()]


async def lines(database: Database, archive: Path, store: Store, found: Head, place: Path | None) -> AsyncIterator[bytes]:
    """A session whose `head` was read, to that point. `place`: its directory, if that shall go along.

    Raises Unavailable where a file, or one of the archive, cannot be read, Conflict if the session went on while its
    directory was read.
    """
    out, count, session_id = Lines(), 0, str(found.session["id"])
    yield out.of("session", [{"format": FORMAT, "agent": found.agent, "row": row_of("session", found.session)}])
    yield out.of("task", [{"row": row_of("task", task)} for task in found.tasks])
    yield out.of("turn", [{"row": row_of("turn", turn)} for turn in found.turns])
    async for rows in _rows(database, archive, session_id, found.last):
        count += len(rows)
        yield out.of("event", [{"row": segments.line_of(row)} for row in rows])
    async for kind, value in _files(store, found.files):
        yield out.of(kind, [value])
    if place is not None:
        async for data in _journal(place):
            yield out.of("journal", [{"data": base64.b64encode(data).decode()}])
        now = await database.read(lambda conn: head(conn, session_id))
        if now.session["fence"] != found.session["fence"]:
            raise Conflict(f"Session {session_id!r} went on while its files were read.", "Try again.")
    yield out.end(count)


async def _rows(database: Database, archive: Path, session_id: str, last: int) -> AsyncIterator[list[Row]]:
    """The whole log up to `last`, in order, whatever goes into the archive meanwhile."""
    position = Position(0)
    while True:
        path, rows = await database.read(lambda conn, at=position: _next(conn, session_id, at))  # type: ignore[misc]
        if path is not None:
            archived = (row for row in segments.read(archive, path.path, session_id) if row.position > position)
            while part := await anyio.to_thread.run_sync(_some, archived):
                yield part
            position = Position(path.last_seq, BEHIND)
            continue
        rows = [row for row in rows if row.seq <= last]
        if not rows:
            return
        yield rows
        position = rows[-1].position


def _next(conn: Connection, session_id: str, after: Position) -> tuple[Any, list[Row]]:
    """The file of the archive that goes on after a position, else the rows that do."""
    for piece in pieces(conn, session_id):
        if Position(piece.last_seq, BEHIND) > after:
            return piece, []
    return None, read(conn, session_id, after, PAGE)


def _some(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, PAGE))


async def _files(store: Store, files: list[dict[str, Any]]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    told: set[str] = set()
    for file in files:
        yield "file", {"row": row_of("file", file)}
        if file["sha256"] not in told:
            told.add(file["sha256"])
            with await anyio.to_thread.run_sync(store.open, file["sha256"]) as content:
                while data := await anyio.to_thread.run_sync(content.read, PIECE):
                    yield "bytes", {"data": base64.b64encode(data).decode()}


async def _journal(place: Path) -> AsyncIterator[bytes]:
    with tempfile.TemporaryFile() as file:
        await anyio.to_thread.run_sync(journal.pack, place, file)
        file.seek(0)
        while data := await anyio.to_thread.run_sync(file.read, PIECE):
            yield data
