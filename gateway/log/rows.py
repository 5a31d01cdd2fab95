"""Events on their way into the log and out of it: positions, entries, rows, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Position(NamedTuple):
    seq: int
    sub: int = 0

    def __str__(self) -> str:
        return f"{self.seq}.{self.sub}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """`7` or `7.2`. Raises ValueError for anything else."""
        seq, _, sub = text.partition(".")
        position = cls(int(seq), int(sub or 0))
        if min(position) < 0 or max(position) >= 2**62:
            raise ValueError(f"{text!r} is not a position")
        return position


class Entry(NamedTuple):
    """An event that waits to be appended: encoded, without a number."""

    type: str
    level: str
    actor: str
    body: str
    task_id: str | None
    turn_id: str | None
    created_at: int


class Row(NamedTuple):
    """An event of the log."""

    session_id: str
    seq: int
    sub: int
    id: str
    task_id: str | None
    turn_id: str | None
    type: str
    level: str
    actor: str
    body: str
    created_at: int

    @property
    def position(self) -> Position:
        return Position(self.seq, self.sub)


@dataclass(slots=True)
class Batch:
    """Rows in a row, the position they follow, and what readers made of them, made once: of rows, and of them all."""

    session_id: str
    before: Position
    rows: list[Row]
    shared: dict[Any, Any] = field(default_factory=dict)
    whole: dict[Any, Any] = field(default_factory=dict)

    @property
    def after(self) -> Position:
        return self.rows[-1].position if self.rows else self.before
