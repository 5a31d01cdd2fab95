"""Tables of what is owed to others: push configs (where to) and the outbox (what, and how far it got).

An outbox row names an event and the part of it that is told; the notification is made from the log when it is sent.
Rows are written in the transaction of their event.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Text
from sqlmodel import Field, SQLModel

_POS = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts only INTEGER PRIMARY KEY by itself


class PushConfig(SQLModel, table=True):
    """Where a task's events are pushed to. `name` is the id its caller knows; token and credentials are sealed."""

    __tablename__ = "push_config"

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
    version: str  # of the protocol its caller speaks
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))

    __table_args__ = (Index("ux_push_config_name", "task_id", "name", unique=True),)


class Outbox(SQLModel, table=True):
    """One delivery. Those of a config go out one after the other, in the order of `pos`."""

    __tablename__ = "outbox"

    pos: int | None = Field(default=None, sa_column=Column(_POS, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)  # the same in every try: `webhook-id`
    config_id: str
    session_id: str
    task_id: str
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))  # of the event that is told
    part: str  # statusUpdate or artifactUpdate: what of the event
    state: str = "pending"  # pending, delivering, delivered, dead
    attempts: int = 0
    next_at: int = Field(sa_column=Column(BigInteger, nullable=False))  # pending: not before; delivering: the lease's end
    last_error: str = Field(default="", sa_column=Column(Text, nullable=False))
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    settled_at: int | None = Field(default=None, sa_column=Column(BigInteger))

    __table_args__ = (
        Index("ix_outbox_due", "state", "next_at"),
        Index("ix_outbox_order", "config_id", "pos"),
    )
