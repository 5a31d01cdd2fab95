"""How the log names a file: a part `{"stored": {...}}` in place of its bytes. Pure.

`stored` holds id, name, media_type, size, sha256, and, for a piece of a file, `start` and `end`. Only the gateway makes
such parts: what callers and runtimes send cannot hold one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
STORED = "stored"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file whose bytes are in the store; its row is written with the event that names it."""

    id: str
    name: str
    media_type: str
    size: int
    sha256: str

    def part(self, start: int | None = None, end: int = 0) -> Json:
        stored = {name: getattr(self, name) for name in ("id", "name", "media_type", "size", "sha256")}
        return {STORED: stored if start is None else {**stored, "start": start, "end": end}}


def extend(parts: list[Json], new: list[Json]) -> None:
    """Add parts to others; a piece of a file that follows the piece before it becomes one with it."""
    for part in new:
        stored, before = part.get(STORED), parts[-1].get(STORED) if parts else None
        if stored and before and before["id"] == stored["id"] and before.get("end", -1) == stored.get("start"):
            parts[-1] = {**parts[-1], STORED: {**before, "end": stored["end"]}}
        else:
            parts.append(part)
