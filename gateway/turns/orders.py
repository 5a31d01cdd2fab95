"""What is asked of a turn while it runs: to stop, or to take one more message.

Whoever is asked writes it down, in the turn's row or as a queued turn that names the running one (`steers`); the worker
that holds the turn reads it, wherever it runs. Being told is a hint only: a worker looks by itself every second.

    cancel      ends the task, and with it what waits in it
    interrupt   ends the running turn as canceled; what waits in the task is its next turn
    steer       the message joins the running turn once the runtime has taken it (the event `steered`, in whose
                transaction the queued turn ends); one that is never taken stays queued and is the next turn
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select, update

from gateway.clock import now_us
from gateway.errors import NotFound, NothingRuns
from gateway.log.models import Session, Turn
from gateway.log.owned import no_context, no_task
from gateway.log.store import locked
from gateway.turns.spec import Inbound

_session, _turn = Session.__table__.c, Turn.__table__.c  # type: ignore[attr-defined]

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_STOPPED = select(_turn.id).where(_turn.id.in_(_IDS), _turn.cancel_requested | _turn.interrupt_requested)
_WAITING = select(_turn.steers, _turn.id).where(_turn.steers.in_(_IDS), _turn.state == "queued").order_by(_turn.ordinal)
_JOIN = (
    update(Turn)
    .where(_turn.id == bindparam("key"), _turn.steers == bindparam("into"), _turn.state == "queued")
    .values(state="ended", yield_reason="steered", ended_at=bindparam("at"), round=0)
)
# One that has begun and waits for another worker to go on with it runs, too, for whoever asks something of it.
_BETWEEN = (_turn.state == "queued") & (_turn.attempt > 0)
_RUNS = ((_turn.state == "running") | _BETWEEN, _turn.yield_reason.is_(None))


@dataclass(frozen=True, slots=True)
class Orders:
    """What is asked of some running turns."""

    stop: frozenset[str]
    messages: tuple[tuple[str, str], ...]  # (running turn, the turn that waits with a message for it), in order


def asked(conn: Connection, turn_ids: Sequence[str]) -> Orders:
    """What is asked of these running turns now."""
    ids = {"ids": list(turn_ids)}
    stop = frozenset(conn.execute(_STOPPED, ids).scalars())
    return Orders(stop, tuple((row.steers, row.id) for row in conn.execute(_WAITING, ids)))


def held(conn: Connection, turn_ids: Sequence[str]) -> dict[str, str | None]:
    """The worker of each of these turns that runs."""
    running = select(_turn.id, _turn.owner).where(_turn.id.in_(_IDS), _turn.state == "running")
    return {row.id: row.owner for row in conn.execute(running, {"ids": list(turn_ids)})}


def interrupt(conn: Connection, session_id: str) -> str | None:
    """Ask the turn that runs in a session to stop. Answers its id; None if none runs."""
    locked(conn, session_id)
    found = conn.execute(select(_turn.id).where(_turn.session_id == session_id, *_RUNS)).scalar()
    if found is not None:
        conn.execute(update(Turn).where(_turn.id == found).values(interrupt_requested=True))
    return found


def interrupted(conn: Connection, turn_id: str) -> bool:
    """Whether a turn is to stop while its task goes on."""
    flags = conn.execute(select(_turn.interrupt_requested, _turn.cancel_requested).where(_turn.id == turn_id)).first()
    return flags is not None and flags.interrupt_requested and not flags.cancel_requested


def join(conn: Connection, turn_id: str, taken: Sequence[str]) -> None:
    """The messages of queued turns were taken into a running one: they are no turns of their own any more."""
    for waiting in taken:
        conn.execute(_JOIN, {"key": waiting, "into": turn_id, "at": now_us()})


def unended(conn: Connection, task_id: str) -> Any:
    """(id, state) of the task's turn that runs, else of one that waits; None if all have ended."""
    of_task = select(_turn.id, _turn.state).where(_turn.task_id == task_id, _turn.state != "ended")
    return conn.execute(of_task.order_by(_turn.state.desc(), _turn.ordinal).limit(1)).first()


def has_ended(conn: Connection, turn_id: str) -> bool:
    return conn.execute(select(_turn.state).where(_turn.id == turn_id)).scalar() in (None, "ended")


def joined(conn: Connection, agent_id: str, principal: str, new: Inbound) -> Any:
    """The running turn a message is to join, None if it is to be a turn of its own.

    `steer` joins what runs in the message's task, or in its session where it names no task; raises NothingRuns if nothing
    does, NotFound if they are not the caller's. `auto` joins if it can, but never before earlier messages of the task.
    """
    if new.mode == "queue":
        return None
    place = _turn.task_id == new.task_id if new.task_id else _turn.session_id == new.context_id
    whose = (_session.id == _turn.session_id, _session.agent_id == agent_id, _session.principal == principal)
    running = conn.execute(select(_turn).where(place, *_RUNS, *whose)).first()
    if running is None and new.mode == "steer":
        raise _nothing_runs(conn, agent_id, principal, new)
    if running is not None and new.mode == "auto" and _has_line(conn, running):
        return None
    return running


def _has_line(conn: Connection, running: Any) -> bool:
    """Whether messages of the task wait that do not join the running turn."""
    mine = (_turn.task_id == running.task_id, _turn.state == "queued")
    other = _turn.steers.is_(None) | (_turn.steers != running.id)
    return bool(conn.execute(select(func.count()).where(*mine, other)).scalar())


def _nothing_runs(conn: Connection, agent_id: str, principal: str, new: Inbound) -> NothingRuns | NotFound:
    of_task = select(_turn.session_id).where(_turn.task_id == new.task_id).limit(1)
    session_id = conn.execute(of_task).scalar() if new.task_id else new.context_id
    whose = (_session.id == session_id, _session.agent_id == agent_id, _session.principal == principal)
    if conn.execute(select(_session.id).where(*whose)).first() is None:
        return no_task(new.task_id) if new.task_id else no_context(new.context_id or "")
    return NothingRuns(f"Nothing runs in {session_id!r} that could take the message.", "Send it as a new turn.")
