"""The table of events that images of custom runtimes have appended, by the images' own ids."""

from __future__ import annotations

from sqlalchemy import Column, Text
from sqlmodel import Field, SQLModel


class RuntimeEvent(SQLModel, table=True):
    """Written in the transaction of the event; kept until its turn is over."""

    __tablename__ = "runtime_event"

    turn_id: str = Field(sa_column=Column(Text, primary_key=True))
    id: str = Field(sa_column=Column(Text, primary_key=True))  # the image's own
    type: str
