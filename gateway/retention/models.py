"""The table of what went into the archive: one row a piece of a session's log, written when the session's floor is raised."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Text, text
from sqlmodel import Field, SQLModel

_UNPRUNED = text("pruned_at IS NULL")


class Archived(SQLModel, table=True):
    """The events `first_seq` to `last_seq` of a session, and what is still asked of them."""

    __tablename__ = "archive"

    session_id: str = Field(primary_key=True)
    first_seq: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    last_seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    path: str  # below the archive's directory
    events: int  # all levels
    message: str | None = Field(default=None, sa_column=Column(Text))  # the body of the first one, which titles the session
    usage: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    pruned_at: int | None = Field(default=None, sa_column=Column(BigInteger))  # when the last of the rows was deleted

    __table_args__ = (Index("ix_archive_unpruned", "session_id", sqlite_where=_UNPRUNED, postgresql_where=_UNPRUNED),)
