"""Which events of a turn its image has appended: the ids it gave them, in all attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from gateway.log.models import EventRow, Turn
from gateway.runtime_api.models import RuntimeEvent
from gateway.turns.leases import Claimed

_event, _mine, _turn = EventRow.__table__, RuntimeEvent.__table__, Turn.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Before:
    """What was so when an attempt began."""

    read_cursor: int  # the seq before the turn's first message
    cursor: int  # the last seq of the session
    ids: Mapping[str, str]  # events that were appended in this turn, id -> type


def before(conn: Connection, turn: Claimed) -> Before:
    of_session = _event.c.session_id == turn.session_id
    asked = select(func.min(_event.c.seq)).where(of_session, _event.c.turn_id == turn.id, _event.c.type == "message")
    first = conn.execute(asked).scalar() or 1
    last = conn.execute(select(func.max(_event.c.seq)).where(of_session)).scalar() or 0
    ids = conn.execute(select(_mine.c.id, _mine.c.type).where(_mine.c.turn_id == turn.id)) if turn.begun else ()
    return Before(first - 1, last, {row.id: row.type for row in ids})


def add(conn: Connection, turn: Claimed, types: Mapping[str, str]) -> None:
    """Remember that these were appended."""
    rows = [{"turn_id": turn.id, "id": id, "type": type} for id, type in types.items()]
    conn.execute(insert(_mine), rows)


def forget_ended(conn: Connection) -> int:
    """Turns that are over repeat nothing. Answers how many events are forgotten."""
    unended = select(_turn.c.id).where(_turn.c.state.in_(("queued", "running")))
    return int(conn.execute(delete(_mine).where(_mine.c.turn_id.not_in(unended))).rowcount)
