"""What the schema says of itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column
from sqlmodel import Field, SQLModel


class SchemaSupport(SQLModel, table=True):
    """Its one row: the revision that code must know to work with the schema."""

    __tablename__ = "schema_support"

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    oldest: str


class ConnectionRow(SQLModel, table=True):
    """A connection to PostgreSQL, and the number of its last commit, made `at`: see gateway.db.commits."""

    __tablename__ = "connection"

    id: str = Field(primary_key=True)
    commits: int = Field(sa_column=Column(BigInteger, nullable=False))
    at: int = Field(sa_column=Column(BigInteger, nullable=False))
