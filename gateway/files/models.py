"""The table of files that belong to sessions: who may have them, what they are called, where their bytes are."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel


class File(SQLModel, table=True):
    """A file a caller sent or an agent made. Its bytes are in the store, under their hash."""

    __tablename__ = "file"

    id: str = Field(primary_key=True)
    session_id: str = Field(index=True)
    agent_id: str
    principal: str
    task_id: str
    name: str
    media_type: str
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: str = Field(index=True)
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
