"""A turn that is begun again, after its process or its worker died in the middle of it.

It is the same turn, in the same journal, and what was told stays. A prompt is never given twice once a tool has started:
then the runtime is told to go on, in its own session; one whose session is not known is told what was said and done so
far. Where there was nothing but text the prompt is given again, and the text of the new attempt follows that of the old.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, exists, func, select

from adapters import events as ev
from adapters.events import Event
from adapters.profile import Mode
from gateway.log.models import EventRow, Turn
from gateway.turns.asked import Asked
from gateway.turns.journals import LOST
from gateway.turns.leases import Claimed

GO_ON = "The work was interrupted. Go on where you stopped."
PAUSE_SECONDS = 1.0  # before the second attempt; doubled before each other one

_event, _turn = EventRow.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]


def interrupted() -> Event:
    """What the caller is told. Not on what the work went on."""
    return ev.status("The work was interrupted and goes on.")


def may_go_on(turn: Claimed, mode: Mode, attempts: int) -> bool:
    """Whether the attempt of a turn that would be its next is allowed."""
    return mode.capabilities.resume and turn.attempt <= attempts


def pause(attempt: int) -> float:
    """Seconds before an attempt after a crash."""
    return float(PAUSE_SECONDS * 2 ** (attempt - 2))


def continued(conn: Connection, turn: Claimed, asked: Asked, runtime: str) -> tuple[Claimed, Asked]:
    """A turn and what it is asked, as its next attempt shall begin."""
    if not turn.begun:
        return turn, asked
    mine = turn.native.get(runtime) or {}
    if not _used_tools(conn, turn):
        return (turn if _has_spoken_before(conn, turn) else _without(turn, runtime)), asked
    going_on = replace(asked, prompt=GO_ON, parts=({"text": GO_ON},), references=(), goes_on=True)
    if mine.get("native_session"):
        return turn, going_on
    return replace(turn, native={**turn.native, LOST: True}), going_on


def _used_tools(conn: Connection, turn: Claimed) -> bool:
    mine = (_event.session_id == turn.session_id, _event.turn_id == turn.id, _event.type == "tool_start")
    return bool(conn.execute(select(exists().where(*mine))).scalar())


def _has_spoken_before(conn: Connection, turn: Claimed) -> bool:
    """Whether an earlier turn of the session has begun: then the runtime's session is older than this turn."""
    earlier = (_turn.session_id == turn.session_id, _turn.id != turn.id, _turn.attempt > 0)
    return conn.execute(select(func.count()).where(*earlier)).scalar_one() > 0


def _without(turn: Claimed, runtime: str) -> Claimed:
    """It may have died before it wrote its session down: it gets a new one."""
    return replace(turn, native={name: value for name, value in turn.native.items() if name != runtime})
