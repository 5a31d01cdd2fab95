"""Recorded calls: operations of a connection. A call is written down before it runs, its result with what tells it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from gateway.clock import now_us
from gateway.hands.models import SandboxCall
from gateway.hands.tools import Result
from gateway.log.models import Session, Turn
from gateway.turns.leases import Claimed

_call, _turn = SandboxCall.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]
_session = Session.__table__.c  # type: ignore[attr-defined]

_OVER = _call.turn_id.not_in(select(_turn.id).where(_turn.state.in_(("queued", "running"))))


@dataclass(frozen=True, slots=True)
class Recorded:
    digest: str
    result: Result | None


def digest_of(tool: str, input: Any) -> str:
    text = json.dumps([tool, input], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(conn: Connection, turn_id: str, call_id: str) -> Recorded | None:
    row = conn.execute(select(_call.digest, _call.result).where(_call.turn_id == turn_id, _call.call_id == call_id)).first()
    if row is None:
        return None
    return Recorded(row.digest, Result(**json.loads(zlib.decompress(row.result))) if row.result is not None else None)


def intends(turn: Claimed, call_id: str, tool: str, digest: str) -> Callable[[Connection], None]:
    """Write down that a call is about to run."""
    row = {"turn_id": turn.id, "call_id": call_id, "session_id": turn.session_id, "tool": tool, "digest": digest}

    def op(conn: Connection) -> None:
        conn.execute(insert(SandboxCall), [{**row, "created_at": now_us()}])

    return op


def has_done(turn: Claimed, call_id: str, result: Result) -> Callable[[Connection], None]:
    packed = zlib.compress(json.dumps(result.to_json(), ensure_ascii=True).encode(), 1)

    def op(conn: Connection) -> None:
        mine = (_call.turn_id == turn.id, _call.call_id == call_id)
        conn.execute(update(SandboxCall).where(*mine).values(result=packed))

    return op


def fence_of(conn: Connection, session_id: str) -> int | None:
    """Of the attempt that has the session now."""
    found: int | None = conn.execute(select(_session.fence).where(_session.id == session_id)).scalar()
    return found


class Left(NamedTuple):
    """A call whose turn is over and whose result nobody knows: it may still run."""

    session_id: str
    turn_id: str
    call_id: str


def left(conn: Connection) -> list[Left]:
    rows = conn.execute(select(_call.session_id, _call.turn_id, _call.call_id).where(_OVER, _call.result.is_(None)))
    return [Left(*row) for row in rows]


def forget_ended(conn: Connection) -> int:
    """Remove the calls of turns that are over: nobody can ask for them again. Answers how many."""
    return int(conn.execute(delete(SandboxCall).where(_OVER)).rowcount)
