"""The one way events leave the log: replay from a position, then live, without a gap or a repeat.

A subscriber is a cursor, never a queue: one that reads slowly costs nobody anything and misses nothing. What is told
by nobody (another process wrote it) is found by `watch`, which asks once a second for all sessions that are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from sqlalchemy import Connection, select

from gateway.errors import SwitchboardError
from gateway.log.hub import Asked, Channel
from gateway.log.models import EventRow, Session
from gateway.log.rows import Batch, Position
from gateway.log.snapshot import begins_later, page
from gateway.log.store import Log

POLL_SECONDS = 1.0  # a wake-up is a hint; while all is quiet the log is asked so often
PAGE = 1000
ASK = 500  # sessions asked for at once

_session, _event = Session.__table__, EventRow.__table__  # type: ignore[attr-defined]
_one = _event.alias()
_last = (
    select(_one.c.pos)
    .where(_one.c.session_id == _session.c.id)
    .order_by(_one.c.seq.desc(), _one.c.sub.desc())
    .limit(1)
    .correlate(_session)
    .scalar_subquery()
)


async def tail(
    log: Log,
    session_id: str,
    after: Position = Position(0),  # noqa: B008
    *,
    live: bool = True,
    leaves: bool = False,
) -> AsyncIterator[Batch]:
    """Batches after a position, in order. Ends only where the log is read to its end, and then if `live` is false, or if
    the reader `leaves` when this process is about to stop.

    Batches that are read while they are fresh are the very objects other readers get (`Batch.shared`).
    """
    position = after
    with log.hub.subscribe(session_id) as channel:
        while True:
            changed = channel.changed
            batch = channel.following(position)
            if batch is None and not (live and channel.ends_at(position)):
                batch = await _page(log, channel, session_id, position)
            if batch is not None:
                position = batch.after
                yield batch
            elif not live or (leaves and log.left):
                return
            elif not channel.goes_past(position):  # else the page was read for somebody before there was more
                await changed.wait()


async def _page(log: Log, channel: Channel, session_id: str, position: Position) -> Batch | None:
    """The log after a position; who asks for the same meanwhile waits for the one answer."""
    while (asked := channel.asked.get(position)) is not None:
        await asked.answered.wait()
        if asked.known:
            return asked.batch
    asked = channel.asked[position] = Asked()
    try:
        rows = await log.read(session_id, position, PAGE)
        if begins_later(rows, position):
            rows = await log.database.read(lambda conn: page(conn, session_id, position, PAGE))
        asked.batch, asked.known = Batch(session_id, position, rows) if rows else None, True
        if asked.batch is not None and len(rows) < PAGE:
            channel.keep(asked.batch)
        return asked.batch
    finally:
        del channel.asked[position]
        asked.answered.set()


async def watch(log: Log) -> None:
    """Look for what others wrote into the sessions that are read here. Runs until cancelled."""
    while True:
        with anyio.move_on_after(POLL_SECONDS):
            await log.missed.wait()
        log.missed = anyio.Event()
        sessions = log.hub.sessions()
        for start in range(0, len(sessions), ASK):
            try:
                ends = await log.database.read(lambda conn, ids=sessions[start : start + ASK]: _ends(conn, ids), snapshot=False)  # type: ignore[misc]
            except SwitchboardError:
                continue
            for session_id, end in ends:
                log.hub.reaches(session_id, end)


def _ends(conn: Connection, sessions: list[str]) -> list[tuple[str, Position]]:
    """The last position of each session; as cheap for a long log as for a short one."""
    joined = _session.join(_event, _event.c.pos == _last)
    query = select(_session.c.id, _event.c.seq, _event.c.sub).select_from(joined).where(_session.c.id.in_(sessions))
    return [(row.id, Position(row.seq, row.sub)) for row in conn.execute(query)]
