"""A turn that is begun again, after its process or its worker died in the middle of it.

It is the same turn, in the same journal. A prompt is never given twice once a tool has started: then the runtime is told
to go on, in its own session; one whose session is not known is told what was said and done so far. Where there was
nothing but text the prompt is given again (`anew`), and the text of the new attempt replaces that of the old. A runtime that
replays is told the same each time, and goes by its own journal.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, exists, select

from adapters import events as ev
from adapters.events import Event
from adapters.profile import Mode, Profile
from gateway.clock import now_us
from gateway.log.models import EventRow, Turn
from gateway.turns.asked import Asked
from gateway.turns.journals import LOST
from gateway.turns.leases import Claimed, Used
from gateway.turns.limits import size_of
from gateway.turns.queue import first_seq

GO_ON = "The work was interrupted. Go on where you stopped."
LONGEST_PAUSE = 60.0  # seconds

_event, _turn = EventRow.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]
_COUNTED = ("tool_start", "chunk", "artifact", "usage")


def interrupted() -> Event:
    """What the caller is told. Not on what the work went on."""
    return ev.status("The work was interrupted and goes on.")


def started(turn: Claimed, asked: Asked) -> Event:
    """The first event of an attempt. Where text begins anew everybody has to know who reads text."""
    body: dict[str, Any] = {"turn": turn.id, "attempt": turn.attempt}
    if asked.anew:
        return Event("turn_started", "user", {**body, "anew": True}, "system")
    return Event("turn_started", "progress", body, "system")


def may_go_on(turn: Claimed, mode: Mode, attempts: int) -> bool:
    """Whether the attempt of a turn that would be its next is allowed."""
    can = mode.capabilities
    return (can.resume or can.replays) and turn.attempt <= attempts


def pause(died: int, first: float) -> float:
    """Seconds after the attempt of that number has crashed."""
    return min(LONGEST_PAUSE, float(first * 2 ** (died - 1)))


def continued(conn: Connection, turn: Claimed, asked: Asked, profile: Profile, mode: str | None) -> tuple[Claimed, Asked]:
    """A turn and what it is asked, as its next attempt shall begin."""
    if not turn.begun:
        return turn, asked
    turn = replace(turn, used=_used(conn, turn))
    if profile.mode(mode).capabilities.replays:
        return turn, asked
    if not turn.used.tools:
        again = replace(asked, anew=True)
        return (turn if _has_spoken_before(conn, turn) else _without(turn, profile.name)), again
    going_on = replace(asked, prompt=GO_ON, parts=({"text": GO_ON},), references=(), goes_on=True)
    if (turn.native.get(profile.name) or {}).get("native_session"):
        return turn, going_on
    return replace(turn, native={**turn.native, LOST: True}), going_on


def _used(conn: Connection, turn: Claimed) -> Used:
    """What a turn's attempts so far have used, as its log has it."""
    mine = (_event.session_id == turn.session_id, _event.seq >= first_seq(conn, turn.id), _event.turn_id == turn.id)
    tools, bytes, tokens, cost = 0, 0, 0, 0.0
    for type, text in conn.execute(select(_event.type, _event.body).where(*mine, _event.type.in_(_COUNTED))):
        body = json.loads(text)
        if type == "tool_start":
            tools += 1
        elif type == "usage":
            tokens += (body.get("input_tokens") or 0) + (body.get("output_tokens") or 0)
            cost += body.get("cost_usd") or 0
        else:
            bytes += size_of(type, body)
    began: int | None = conn.execute(select(_turn.started_at).where(_turn.id == turn.id)).scalar()
    return Used(max(0.0, (now_us() - began) / 1e6) if began else 0.0, tools, bytes, tokens, cost)


def _has_spoken_before(conn: Connection, turn: Claimed) -> bool:
    """Whether an earlier turn of the session has begun: then the runtime's session is older than this turn."""
    earlier = (_turn.session_id == turn.session_id, _turn.id != turn.id, _turn.attempt > 0)
    return bool(conn.execute(select(exists().where(*earlier))).scalar())


def _without(turn: Claimed, runtime: str) -> Claimed:
    """It may have died before it wrote its session down: it gets a new one."""
    return replace(turn, native={name: value for name, value in turn.native.items() if name != runtime})
