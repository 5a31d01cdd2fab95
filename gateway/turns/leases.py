"""The turn row is the lease: who holds a running turn, until when, and under which fence. Operations of a connection.

    take        a new holder, a new fence; what the last one still writes is refused from then on
    beat        the holder lives: its turns are its own for some seconds more
    begin       its process may start now: until then a turn that lost its holder simply goes back to the queue
    others      turns that others hold; `turns.watch` says which of them are lost

Nobody trusts a clock that others set: a lease is renewed by changing `lease_until`, and whoever looks only asks whether it
has changed. A holder that does not know whether it still holds a turn must not act for it: the runner's process is stopped
when no beat has succeeded for the length of a lease.
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
_SET_SESSION = update(_session).where(_session.c.id == _KEY)
_LOCKED = select(_session).where(_session.c.id == _KEY).with_for_update(key_share=True)
_SET = update(_turn).where(_turn.c.id == _KEY)
_SET_HELD = _SET.where(_turn.c.fence == bindparam("held_fence"), _turn.c.state == "running")
_RUNNING = _turn.c.state == "running"
_OF_OWNER = (_RUNNING, _turn.c.owner == bindparam("holder"), _turn.c.id.in_(bindparam("ids", expanding=True)))
_RENEWED: dict[str, Any] = {"lease_until": bindparam("until"), "lease_seconds": bindparam("seconds")}
_BEAT = update(_turn).where(*_OF_OWNER).values(_RENEWED).returning(_turn.c.id)
_SEEN = ("id", "session_id", "fence", "owner", "lease_until", "lease_seconds", "engine")
_HELD = select(*(_turn.c[name] for name in _SEEN)).where(_RUNNING)


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
    lease_until: int
    lease_seconds: float | None
    engine: bool  # it needs one


def take(conn: Connection, turn: Any, owner: str, seconds: float, *, starts: bool = False) -> Claimed:
    """Make `owner` the one that holds a turn, under a new fence, for so long.

    `starts`: it waited until now, and runs from now on; else nobody's state changes by it.
    """
    session = conn.execute(_LOCKED, {"key": turn.session_id}).one()
    fence, spent = session.fence + 1, session.spent or {}
    held = {"fence": fence, "owner": owner, "lease_until": _until(conn, seconds), "lease_seconds": seconds}
    changed: dict[str, Any] = {"fence": fence}
    if starts:
        spent = {**spent, "turns": spent.get("turns", 0) + 1}
        changed |= {"status": "running", "spent": spent}
        held["state"] = "running"
    conn.execute(_SET_SESSION, {"key": session.id, **changed})
    conn.execute(_SET, {"key": turn.id, **held})
    return Claimed(
        id=turn.id,
        session_id=turn.session_id,
        task_id=turn.task_id,
        attempt=turn.attempt + 1,
        fence=fence,
        agent_id=session.agent_id,
        agent_version=session.agent_version,
        native=session.native,
        limits=session.limits or {},
        spent=spent,
        runtime_version=session.runtime_version,
    )


def begin(conn: Connection, turn: Claimed, first: Sequence[Entry]) -> Batch:
    """Write the first events of an attempt. Once this is committed its process may start."""
    batch = append(conn, turn.session_id, first, turn.fence)
    started = {} if turn.begun else {"started_at": now_us()}
    conn.execute(_SET, {"key": turn.id, "attempt": turn.attempt, **started})
    return batch


def beat(conn: Connection, owner: str, held: Collection[str], seconds: float) -> set[str]:
    """Renew an owner's leases of the turns it holds. Answers those turns; others it has lost."""
    found = conn.execute(_BEAT, {"holder": owner, "ids": list(held), "until": _until(conn, seconds), "seconds": seconds})
    return set(found.scalars())


def others(conn: Connection, held: Collection[str]) -> list[Seen]:
    """Running turns a worker does not hold: those of others, and its own that it has given up."""
    rows = (row for row in conn.execute(_HELD) if row.id not in held)
    return [
        Seen(row.id, row.session_id, row.fence, row.owner or "", row.lease_until or 0, row.lease_seconds, row.engine)
        for row in rows
    ]


def take_over(conn: Connection, owner: str, lost: Sequence[Seen], seconds: float) -> list[Claimed]:
    """Take turns that were lost, unless their holder was heard of since."""
    taken = []
    for seen in lost:
        locked(conn, seen.session_id)
        turn = conn.execute(select(_turn).where(_turn.c.id == seen.id, _turn.c.fence == seen.fence, _RUNNING)).first()
        if turn is not None and (turn.lease_until or 0) == seen.lease_until:
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
    """Put a turn of which nothing runs back into the queue, in its old place. What it has used stays counted."""
    locked(conn, turn.session_id, turn.fence)
    conn.execute(_SET_HELD, {"key": turn.id, "held_fence": turn.fence, "state": "queued"})
    session = conn.execute(_LOCKED, {"key": turn.session_id}).one()
    spent = session.spent or {}
    spent = {**spent, "turns": max(0, spent.get("turns", 0) - 1)}
    conn.execute(_SET_SESSION, {"key": session.id, "fence": session.fence + 1, "status": "queued", "spent": spent})


def raise_fence(conn: Connection, session_id: str) -> None:
    """Nothing that is still on its way to a session's log arrives."""
    conn.execute(_RAISE_FENCE, {"key": session_id})


def release(conn: Connection, turn: Claimed) -> None:
    """The turn's process is gone: the session is free for its next turn."""
    conn.execute(_SET_HELD, {"key": turn.id, "held_fence": turn.fence, "state": "ended", "ended_at": now_us()})


def _until(conn: Connection, seconds: float) -> int:
    return clock(conn) + round(seconds * 1e6)
