"""The turn row is the lease: who holds a running turn, until when, and under which fence. Operations of a connection.

    take        a new holder, a new fence; what the last one still writes is refused from then on
    beat        the holder lives: its turns are its own for some seconds more
    begin       its process may start now: until then a turn that lost its holder simply goes back to the queue
    lost        turns whose holder is dead, or was not heard of for too long

All times are the database's own clock. A holder that does not know whether it still holds a turn must not act for it:
the runner's process is stopped when no beat has succeeded for the length of a lease.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, select, update

from gateway.clock import now_us
from gateway.db.clock import clock
from gateway.log.models import Session, Turn
from gateway.log.rows import Batch, Entry
from gateway.log.store import append, locked

_session, _turn = Session.__table__, Turn.__table__  # type: ignore[attr-defined]

_KEY: BindParameter[Any] = bindparam("key")
_RAISE_FENCE = update(_session).where(_session.c.id == _KEY).values(fence=_session.c.fence + 1)
_SESSION = select(_session).where(_session.c.id == _KEY)
_SET = update(_turn).where(_turn.c.id == _KEY)
_SET_HELD = _SET.where(_turn.c.fence == bindparam("held_fence"), _turn.c.state == "running")
_RUNNING = _turn.c.state == "running"
_OF_OWNER = (_RUNNING, _turn.c.owner == bindparam("holder"))
_BEAT = update(_turn).where(*_OF_OWNER).values(lease_until=bindparam("until")).returning(_turn.c.id)
_HELD = select(_turn.c.id, _turn.c.session_id, _turn.c.fence, _turn.c.owner, _turn.c.lease_until).where(_RUNNING)


@dataclass(frozen=True, slots=True)
class Used:
    """What the attempts of a turn before this one have used of its limits."""

    seconds: float = 0.0
    tools: int = 0
    bytes: int = 0  # of text and artifacts
    tokens: int = 0
    cost_usd: float = 0.0


NOTHING = Used()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A turn this worker holds, under a fence."""

    id: str
    session_id: str
    task_id: str
    attempt: int  # the one that may begin now
    fence: int
    agent_id: str
    agent_version: int
    native: dict[str, Any]
    limits: dict[str, Any] = field(default_factory=dict)  # the session's own
    spent: dict[str, Any] = field(default_factory=dict)  # by the session so far, this turn counted among its turns
    used: Used = NOTHING
    runtime_version: int | None = None  # that the session keeps

    @property
    def begun(self) -> bool:
        """Whether an earlier holder may have started its process."""
        return self.attempt > 1


@dataclass(frozen=True, slots=True)
class Seen:
    """A running turn that is not known to be held by whoever looked."""

    id: str
    session_id: str
    fence: int
    owner: str
    expired: bool


def take(conn: Connection, turn: Any, owner: str, seconds: float) -> Claimed:
    """Make `owner` the one that holds a turn, under a new fence, for so long. Nobody's state changes by it."""
    conn.execute(_RAISE_FENCE, {"key": turn.session_id})
    session = conn.execute(_SESSION, {"key": turn.session_id}).one()
    held = {"fence": session.fence, "owner": owner, "lease_until": _until(conn, seconds)}
    conn.execute(_SET, {"key": turn.id, **held})
    return Claimed(
        id=turn.id,
        session_id=turn.session_id,
        task_id=turn.task_id,
        attempt=turn.attempt + 1,
        fence=session.fence,
        agent_id=session.agent_id,
        agent_version=session.agent_version,
        native=session.native,
        limits=session.limits or {},
        spent=session.spent or {},
        runtime_version=session.runtime_version,
    )


def begin(conn: Connection, turn: Claimed, first: Sequence[Entry]) -> Batch:
    """Write the first events of an attempt. Once this is committed its process may start."""
    batch = append(conn, turn.session_id, first, turn.fence)
    started = {} if turn.begun else {"started_at": now_us()}
    conn.execute(_SET, {"key": turn.id, "attempt": turn.attempt, **started})
    return batch


def beat(conn: Connection, owner: str, seconds: float) -> set[str]:
    """Renew an owner's leases. Answers the turns it holds; others it has lost."""
    return set(conn.execute(_BEAT, {"holder": owner, "until": _until(conn, seconds)}).scalars())


def others(conn: Connection, owner: str, held: Collection[str]) -> list[Seen]:
    """Running turns an owner does not hold: those of others, and its own that it has given up."""
    now = clock(conn)
    rows = [row for row in conn.execute(_HELD) if row.id not in held]
    seen = [Seen(row.id, row.session_id, row.fence, row.owner or "", (row.lease_until or 0) < now) for row in rows]
    return [turn for turn in seen if turn.owner != owner or turn.expired]


def take_over(conn: Connection, owner: str, lost: Sequence[Seen], seconds: float) -> list[Claimed]:
    """Take turns that were lost, unless something has changed since they were seen."""
    taken = []
    for seen in lost:
        locked(conn, seen.session_id)
        turn = conn.execute(select(_turn).where(_turn.c.id == seen.id, _turn.c.fence == seen.fence, _RUNNING)).first()
        beats = turn is not None and seen.expired and (turn.lease_until or 0) >= clock(conn)
        if turn is not None and not beats:
            taken.append(take(conn, turn, owner, seconds))
    return taken


def again(conn: Connection, turn: Claimed, owner: str, seconds: float) -> Claimed:
    """The same turn for its next attempt, under a fence of its own."""
    locked(conn, turn.session_id, turn.fence)
    return take(conn, conn.execute(select(_turn).where(_turn.c.id == turn.id)).one(), owner, seconds)


def let_go(conn: Connection, turn: Claimed) -> None:
    """Whoever looks next may have the turn."""
    conn.execute(_SET_HELD, {"key": turn.id, "held_fence": turn.fence, "owner": "", "lease_until": 0})


def hand_back(conn: Connection, turn: Claimed) -> None:
    """Put a turn that has not begun back into the queue, in its old place."""
    locked(conn, turn.session_id, turn.fence)
    conn.execute(_RAISE_FENCE, {"key": turn.session_id})  # nothing that is still on its way to the log arrives
    conn.execute(_SET_HELD, {"key": turn.id, "held_fence": turn.fence, "state": "queued"})
    spent = {**turn.spent, "turns": max(0, turn.spent.get("turns", 0) - 1)}
    conn.execute(update(_session).where(_session.c.id == turn.session_id).values(status="queued", spent=spent))


def release(conn: Connection, turn: Claimed) -> None:
    """The turn's process is gone: the session is free for its next turn."""
    conn.execute(_SET_HELD, {"key": turn.id, "held_fence": turn.fence, "state": "ended", "ended_at": now_us()})


def _until(conn: Connection, seconds: float) -> int:
    return clock(conn) + round(seconds * 1e6)
