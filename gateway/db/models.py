"""What the schema says of itself."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class SchemaSupport(SQLModel, table=True):
    """Its one row: the revision that code must know to work with the schema."""

    __tablename__ = "schema_support"

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    oldest: str
