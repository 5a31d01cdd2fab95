"""Tables of what is owed to others: destinations (where to) and the outbox (what, and how far it got).

An outbox row names an event and the part of it that is told, or a run of events; what is sent is made from the log.
Rows are written in the transaction of their event.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, Text, text
from sqlmodel import Field, SQLModel

_POS = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY by itself
_UNSETTLED, _GROWING = text("settled_at IS NULL"), text("room IS NOT NULL")


class Destination(SQLModel, table=True):
    """Where events are sent: the push config of a task, or, where `task_id` is "", a webhook of its whole session.

    `name` is the id its caller knows. `token` (a webhook's secrets, between spaces) and `credentials` are sealed.
    """

    __tablename__ = "push_config"  # what it held first

    id: str = Field(primary_key=True)
    task_id: str
    name: str
    session_id: str
    agent_id: str
    principal: str
    url: str = Field(sa_column=Column(Text, nullable=False))
    origin: str  # scheme, host and port of the URL: one receiver
    token: str = Field(default="", sa_column=Column(Text, nullable=False))
    scheme: str = ""
    credentials: str = Field(default="", sa_column=Column(Text, nullable=False))
    version: str  # of the protocol its caller speaks; "" for a webhook
    # Which events a webhook is told. They never change, so that a delivery is the same in every try.
    level: str | None = None
    types: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))

    __table_args__ = (
        Index("ux_push_config_name", "task_id", "name", unique=True),
        Index("ix_push_config_session", "session_id", "task_id"),
    )


class Outbox(SQLModel, table=True):
    """One delivery. Those of a destination go out one after the other, in the order of `pos`."""

    __tablename__ = "outbox"

    pos: int | None = Field(default=None, sa_column=Column(_POS, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)  # the same in every try: `webhook-id`
    config_id: str
    session_id: str
    task_id: str
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))  # of the (first) event that is told
    upto: int | None = Field(default=None, sa_column=Column(BigInteger))  # of the last one of a run
    room: int | None = None  # what a run can still take in; None once it was taken out to be sent, and for single events
    part: str  # statusUpdate or artifactUpdate: what of the event; or events: a run
    state: str = "pending"  # pending, delivering, delivered, dead
    attempts: int = 0
    next_at: int = Field(sa_column=Column(BigInteger, nullable=False))  # pending: not before; delivering: the lease's end
    last_error: str = Field(default="", sa_column=Column(Text, nullable=False))
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    settled_at: int | None = Field(default=None, sa_column=Column(BigInteger))

    __table_args__ = (
        Index("ix_outbox_due", "state", "next_at"),
        Index("ix_outbox_order", "config_id", "pos"),
        Index("ix_outbox_open", "config_id", "pos", sqlite_where=_UNSETTLED, postgresql_where=_UNSETTLED),
        Index("ix_outbox_run", "config_id", sqlite_where=_GROWING, postgresql_where=_GROWING),
    )
