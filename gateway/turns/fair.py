"""Whose turn is next: fair among agents and callers, at a cost that does not grow with what waits.

Every waiting turn has a `round`, given when it is queued: the round of the turn that was begun last, or the one after the
last of its own agent and caller, whichever is later. The lowest round is next, within it the oldest. So a burst of one
caller at one agent takes one place in each round, and whoever comes later waits behind one turn of it, not behind all.

A turn that cannot begin, because its session or its agent has no room, is put aside (`aside`) when it is first met and not
looked at again until a turn has ended that may have made room for it: each ended turn is looked at once (`settled`).
All of it happens inside a claim, so that whatever ends a turn need know nothing of it. A session is locked before a turn of
it is changed: who works beside holds one session and waits for its turns only, so nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    union_all,
    update,
)

from gateway.errors import RateLimited
from gateway.log.models import Session, Turn
from gateway.log.store import locked
from registry.models import Agent, AgentVersion

SESSION_RETRY_SECONDS = 60
ROOM = 2  # turns of an agent that are looked at again when one has ended: one more, should it be allowed more by now

_T = Turn.__table__  # type: ignore[attr-defined]
_turn, _session = _T.c, Session.__table__.c  # type: ignore[attr-defined]
_agent, _version = Agent.__table__.c, AgentVersion.__table__.c  # type: ignore[attr-defined]
_KEY: BindParameter[Any] = bindparam("key")
# States are literals, for the partial indexes.
_IS_QUEUED = _turn.state == literal_column("'queued'")
_IS_RUNNING = _turn.state == literal_column("'running'")
_IS_ENDED = _turn.state == literal_column("'ended'")


def _last_round(*where: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(_turn.round).where(*where).order_by(_turn.round.desc()).limit(1).scalar_subquery()


_LAST_ROUNDS = select(
    _last_round(_IS_RUNNING),
    _last_round(_IS_ENDED),
    _last_round(_turn.agent_id == bindparam("agent"), _turn.principal == bindparam("caller")),
    select(_version.placement)
    .where(_session.id == bindparam("session"), _version.agent_id == _session.agent_id)
    .where(_version.version == _session.agent_version)
    .scalar_subquery(),
)
_LIMITS = select(_version.limits).where(_agent.id == _version.agent_id, _version.version == _agent.version)
_LIMITS_NOW = _LIMITS.where(_agent.id == _KEY)


def _next(*where: ColumnElement[bool]) -> Select[Any]:
    """The turn that is next, whether its session has another before it (`busy`), and its agent's limits."""
    waiting = select(_T).where(_IS_QUEUED, _turn.aside.is_(None), *where).order_by(_turn.round, _turn.queued_at).limit(1)
    next = waiting.subquery("next")
    of_its_session = _turn.session_id == next.c.session_id
    earlier = exists().where(of_its_session, _IS_QUEUED, _turn.ordinal < next.c.ordinal)
    busy = exists().where(of_its_session, _IS_RUNNING) | earlier
    return select(next, busy.label("busy"), _LIMITS.where(_agent.id == next.c.agent_id).scalar_subquery().label("limits"))


_NEXT, _NEXT_PLAIN = _next(), _next(_turn.engine == literal_column("false"))
_RUNNING_OF_AGENT = select(func.count()).where(_turn.agent_id == _KEY, _IS_RUNNING)
_SET_ASIDE = update(_T).where(_turn.id == _KEY)
_ASIDE = select(_turn.id, _turn.session_id).where(_IS_QUEUED)
_OF_SESSION = _ASIDE.where(_turn.session_id == bindparam("session"), _turn.aside.is_not(None)).order_by(_turn.ordinal).limit(1)
_OF_AGENT = _ASIDE.where(_turn.agent_id == bindparam("agent"), _turn.aside == "agent").order_by(_turn.round).limit(ROOM)
_MAY_BEGIN = union_all(*(select(some.subquery()) for some in (_OF_SESSION, _OF_AGENT)))
_SESSIONS = (
    select(_session.id)
    .where(_session.agent_id == bindparam("agent"), _session.principal == bindparam("caller"), _session.status != "archived")
    .limit(bindparam("most"))
)
_BACK = _SET_ASIDE.values(aside=None)
_UNSETTLED = select(_turn.id).where(_IS_ENDED, _turn.settled == literal_column("false")).limit(1)
_SETTLE = (
    update(_T)
    .where(_IS_ENDED, _turn.settled == literal_column("false"))
    .values(settled=True)
    .returning(_turn.session_id, _turn.agent_id)
)


def place_of(conn: Connection, agent_id: str, principal: str, session_id: str) -> dict[str, Any]:
    """A new turn's `round`, and whether it needs a container `engine`: columns of its row."""
    asked = {"agent": agent_id, "caller": principal, "session": session_id}
    running, ended, last, placement = conn.execute(_LAST_ROUNDS, asked).one()
    begun: int = max(running or 0, ended or 0)
    return {"round": begun if last is None else max(begun, last + 1), "engine": placement == "docker"}


def some_plain(conn: Connection) -> bool:
    """Whether a turn may be there that could begin without a container engine."""
    return any(conn.execute(query).first() is not None for query in (_NEXT_PLAIN, _UNSETTLED))


def next_turns(conn: Connection, engines: bool = True) -> Iterator[Any]:
    """Turns that may begin, the next one first. Whoever takes one begins it before asking for another.

    Without `engines` those only that need no container engine.
    """
    _settle(conn)
    query = _NEXT if engines else _NEXT_PLAIN
    while (turn := conn.execute(query).first()) is not None:
        reason = _hindrance(conn, turn)
        if reason is None:
            yield turn
        else:
            locked(conn, turn.session_id)
            conn.execute(_SET_ASIDE, {"key": turn.id, "aside": reason})


def check_sessions(conn: Connection, agent_id: str, principal: str) -> None:
    """Raises RateLimited where a caller has as many sessions of an agent as it allows one."""
    most = (conn.execute(_LIMITS_NOW, {"key": agent_id}).scalar() or {}).get("caller_sessions")
    if most is None:
        return
    if len(conn.execute(_SESSIONS, {"agent": agent_id, "caller": principal, "most": most}).all()) >= most:
        said = f"A caller may have {most} sessions of this agent."
        raise RateLimited(said, "Go on in one of them, or archive one.", SESSION_RETRY_SECONDS)


def _hindrance(conn: Connection, turn: Any) -> str | None:
    """What keeps a turn from beginning: its session, where another comes first, or its agent, which has enough."""
    if turn.busy:
        return "session"
    room = (turn.limits or {}).get("running_turns")
    if room is not None and conn.execute(_RUNNING_OF_AGENT, {"key": turn.agent_id}).scalar_one() >= room:
        return "agent"
    return None


def _settle(conn: Connection) -> None:
    """Look again at what ended turns may have made room for."""
    for ended in conn.execute(_SETTLE).all():
        for turn in conn.execute(_MAY_BEGIN, {"session": ended.session_id, "agent": ended.agent_id}).all():
            locked(conn, turn.session_id)
            conn.execute(_BACK, {"key": turn.id})
