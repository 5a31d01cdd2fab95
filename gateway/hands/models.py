"""The table of recorded calls of sandbox tools. A row is there before its call runs; it goes when its turn is over."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary
from sqlmodel import Field, SQLModel


class SandboxCall(SQLModel, table=True):
    """`result` is compressed JSON; without one the call runs, or nobody knows whether it did.

    `engine`: the id of the one that something of the call may still run on; None where that is over, or was never known.
    """

    __tablename__ = "sandbox_call"

    turn_id: str = Field(primary_key=True)
    call_id: str = Field(primary_key=True)  # the runtime's own, unique within the turn
    session_id: str
    tool: str
    digest: str  # of tool and input
    result: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    engine: str | None = None
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
