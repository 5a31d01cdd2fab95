"""Recorded calls: operations of a connection. A call is written down before it runs, its result with what tells it."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, not_, or_, select, update

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
    engine: str | None  # that something of it may still run on


def digest_of(tool: str, input: Any) -> str:
    text = json.dumps([tool, input], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def recorded(conn: Connection, turn_id: str, call_id: str) -> Recorded | None:
    row = conn.execute(
        select(_call.digest, _call.result, _call.engine).where(_call.turn_id == turn_id, _call.call_id == call_id)
    ).first()
    if row is None:
        return None
    result = Result(**json.loads(zlib.decompress(row.result))) if row.result is not None else None
    return Recorded(row.digest, result, row.engine)


def intends(turn: Claimed, call_id: str, tool: str, digest: str, engine: str | None) -> Callable[[Connection], None]:
    """Write down that a call is about to run, and on which engine."""
    row = {"turn_id": turn.id, "call_id": call_id, "session_id": turn.session_id, "tool": tool, "digest": digest}

    def op(conn: Connection) -> None:
        conn.execute(insert(SandboxCall), [{**row, "engine": engine, "created_at": now_us()}])

    return op


def has_done(turn: Claimed, call_id: str, result: Result, *, ended: bool) -> Callable[[Connection], None]:
    """`ended`: nothing of it can still run."""
    packed = zlib.compress(json.dumps(result.to_json(), ensure_ascii=True).encode(), 1)
    over: dict[str, Any] = {"engine": None} if ended else {}

    def op(conn: Connection) -> None:
        conn.execute(update(SandboxCall).where(*_is(turn.id, call_id)).values(result=packed, **over))

    return op


def may_begin(conn: Connection, turn: Claimed, call_id: str, worker: str) -> bool:
    """Whether a call that is written down is still to run: for its attempt, or for the next one, which the same worker has.

    Not one that another worker has answered meanwhile.
    """
    held = or_(_session.fence == turn.fence, and_(_turn.state == "running", _turn.owner == worker))
    mine = (_turn.id == _call.turn_id, _session.id == _turn.session_id, *_is(turn.id, call_id), _call.result.is_(None))
    return conn.execute(select(_call.call_id).where(*mine, held)).first() is not None


class Left(NamedTuple):
    """A call that has been answered, or whose turn is over, and that may still run on an engine; None: on any."""

    session_id: str
    turn_id: str
    call_id: str
    engine: str | None


def left(conn: Connection) -> list[Left]:
    somewhere, answered = _call.engine.is_not(None), _call.result.is_not(None)
    row = select(_call.session_id, _call.turn_id, _call.call_id, _call.engine)
    rows = conn.execute(row.where(or_(and_(somewhere, answered), and_(_OVER, or_(somewhere, not_(answered))))))
    return [Left(*row) for row in rows]


def ended(conn: Connection, done: Sequence[Left]) -> None:
    """Nothing of these runs any more."""
    for call in done:
        conn.execute(update(SandboxCall).where(*_is(call.turn_id, call.call_id)).values(engine=None))


def forget_ended(conn: Connection, keep_seconds: float) -> int:
    """Remove the calls of turns that are over: nobody can ask for them again. Answers how many.

    One that may still run on an engine is kept until a worker there has ended it; or for so long, after which its sandbox goes.
    """
    gone = or_(_call.engine.is_(None), _call.created_at < now_us() - round(keep_seconds * 1e6))
    return int(conn.execute(delete(SandboxCall).where(_OVER, gone)).rowcount)


def _is(turn_id: str, call_id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (_call.turn_id == turn_id, _call.call_id == call_id)
