"""Tables of sessions at work: session, task, turn, event.

`session.fence` is raised by every takeover of a turn; an append names its fence. `event` numbers what callers read by
`seq` without gaps (`sub` 0); an internal row takes the `seq` it follows and the next `sub`. Times are microseconds
since the epoch, UTC: integers are ten times cheaper to write than SQLite's datetime strings.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, Text, false, text
from sqlmodel import Field, SQLModel

ANSWERED = "answered"  # the state of a task whose whole answer was a message: for callers there is none

_POS = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY by itself


def _where(sql: str) -> dict[str, Any]:
    """Of a partial index, on both databases."""
    return {"sqlite_where": text(sql), "postgresql_where": text(sql)}


class Session(SQLModel, table=True):
    """The durable unit of an agent at work. It is the A2A context."""

    __tablename__ = "session"

    id: str = Field(primary_key=True)
    agent_id: str = Field(index=True)
    agent_version: int
    runtime_version: int | None = None  # of a runtime that is an image
    principal: str
    status: str = "queued"  # queued, running, awaiting_input, idle, failed, archived
    fence: int = 0
    # The last event that went from the log into the archive.
    floor_seq: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    # What the runtime wants remembered, by runtime: {"claude": {"native_session": id, "memory": {...}}}
    native: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    meta: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # the caller's own
    limits: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # beside its agent's
    spent: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # turns, tokens, cost
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))

    __table_args__ = (
        Index("ix_session_agent_principal", "agent_id", "principal", "updated_at"),
        Index("ix_session_listing", "principal", "created_at", "id"),
    )


class Task(SQLModel, table=True):
    """The A2A task: one piece of work in a session. `state` is the A2A state in lower case."""

    __tablename__ = "task"

    id: str = Field(primary_key=True)
    session_id: str = Field(index=True)
    agent_id: str
    principal: str
    # submitted, working, input_required, auth_required, completed, failed, canceled, rejected; answered
    state: str = "submitted"
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    first_seq: int = 0  # where in the session's log the task begins
    # `snapshot_seq`: the task's last `done`; `snapshot`: the task folded up to it, once somebody asked.
    snapshot: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    snapshot_seq: int = 0

    __table_args__ = (
        Index("ix_task_listing", "agent_id", "principal", "updated_at", "id"),
        Index(
            "ix_task_active",
            "principal",
            sqlite_where=text("state IN ('submitted', 'working')"),
            postgresql_where=text("state IN ('submitted', 'working')"),
        ),
    )


class Turn(SQLModel, table=True):
    """One run of the runtime inside a task; the row is the lease."""

    __tablename__ = "turn"

    id: str = Field(primary_key=True)
    session_id: str = Field(index=True)
    task_id: str = Field(index=True)
    ordinal: int = Field(sa_column=Column(Integer, nullable=False))  # order of turns within the session
    state: str = "queued"  # queued, running, ended
    attempt: int = 0  # the last that has begun
    fence: int = 0
    owner: str | None = None  # the worker that holds it
    lease_until: int | None = Field(default=None, sa_column=Column(BigInteger))  # changes whenever it says that it does
    lease_seconds: float | None = None  # and for how long it may say nothing
    cancel_requested: bool = False
    interrupt_requested: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))
    steers: str | None = None  # the running turn its message would join; if it does not, this is the next turn
    yield_reason: str | None = None
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    queued_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    started_at: int | None = Field(default=None, sa_column=Column(BigInteger))
    ended_at: int | None = Field(default=None, sa_column=Column(BigInteger))
    digest: str | None = Field(default=None, index=True)  # of the request that asked for it
    # Whose turn is next: see gateway.turns.fair.
    agent_id: str | None = None
    principal: str | None = None
    round: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    aside: str | None = None  # what it waits for: session, agent
    engine: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))  # it needs one
    settled: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))

    __table_args__ = (
        Index(
            "ux_turn_running",
            "session_id",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        Index("ux_turn_ordinal", "session_id", "ordinal", unique=True),
        Index("ix_turn_state", "state", "queued_at"),
        Index("ix_turn_next", "round", "queued_at", **_where("state = 'queued' AND aside IS NULL")),
        Index("ix_turn_engine", "engine", "round", "queued_at", **_where("state = 'queued' AND aside IS NULL")),
        Index("ix_turn_waiting", "session_id", "ordinal", **_where("state = 'queued'")),
        Index("ix_turn_round", "state", "round"),
        Index("ix_turn_flow", "agent_id", "principal", "round"),
        Index("ix_turn_aside", "agent_id", "aside", "round", **_where("state = 'queued'")),
        Index("ix_turn_running", "agent_id", **_where("state = 'running'")),
        Index("ix_turn_unsettled", "id", **_where("state = 'ended' AND settled = false")),
        Index("ix_turn_steers", "steers", **_where("steers IS NOT NULL")),
    )


class EventRow(SQLModel, table=True):
    """One row of a session's log."""

    __tablename__ = "event"

    pos: int | None = Field(default=None, sa_column=Column(_POS, primary_key=True, autoincrement=True))
    session_id: str
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    sub: int
    id: str
    task_id: str | None = None
    turn_id: str | None = None
    type: str
    level: str
    actor: str
    body: str = Field(sa_column=Column(Text, nullable=False))  # JSON, encoded once when the event is made
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))

    __table_args__ = (
        Index("ux_event_seq", "session_id", "seq", "sub", unique=True),
        Index("ix_event_message", "turn_id", sqlite_where=text("type = 'message'"), postgresql_where=text("type = 'message'")),
    )
