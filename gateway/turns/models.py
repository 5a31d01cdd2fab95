"""The table of workers: one row for each that runs, by which the others know whether its container engine answers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column
from sqlmodel import Field, SQLModel


class WorkerRow(SQLModel, table=True):
    """`beat` grows while there are other workers: a row that stands still is one of a worker that does.

    `engine`: whether its container engine answers; `engine_id`: by which that is known, where it has answered.
    """

    __tablename__ = "worker"

    name: str = Field(primary_key=True)
    engine: bool = Field(sa_column=Column(Boolean, nullable=False))
    engine_id: str | None = None
    beat: int = Field(sa_column=Column(BigInteger, nullable=False))
