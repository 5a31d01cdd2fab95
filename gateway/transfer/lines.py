"""The form of an exported session: JSON Lines, each with its kind, in this order.

    {"kind": "session", "format": 1, "agent": name, "row": {...}}
    {"kind": "task", "row": {...}} ...          {"kind": "turn", "row": {...}} ...
    {"kind": "event", "row": {...}} ...         all levels, from the first one
    {"kind": "file", "row": {...}}              and its bytes, in pieces, where no file before it has the same:
    {"kind": "bytes", "data": base64} ...
    {"kind": "journal", "data": base64} ...     a tar.gz of the session's directories, if it was asked for
    {"kind": "end", "events": n, "sha256": of all bytes before}

A row is that of the table, without what holds on one installation only; an event's body is JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.files.models import File
from gateway.log.models import Session, Task, Turn
from gateway.log.store import encode

FORMAT = 1
# What an installation knows of a session that no other one can use.
LOCAL: Mapping[str, frozenset[str]] = {
    "session": frozenset({"agent_id", "agent_version", "runtime_version", "floor_seq"}),
    "task": frozenset({"session_id", "agent_id", "principal"}),
    "turn": frozenset({"session_id", "owner"}),
    "file": frozenset({"session_id", "agent_id", "principal"}),
}
_MODELS: dict[str, Any] = {"session": Session, "task": Task, "turn": Turn, "file": File}
TABLES = {kind: model.__table__ for kind, model in _MODELS.items()}


def row_of(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in LOCAL[kind]}


class Lines:
    """Makes lines, and reckons the hash the last one tells."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def of(self, kind: str, values: Iterable[Mapping[str, Any]]) -> bytes:
        data = "".join(encode({"kind": kind, **value}) + "\n" for value in values).encode()
        self._hash.update(data)
        return data

    def end(self, events: int) -> bytes:
        return self.of("end", [{"events": events, "sha256": self._hash.hexdigest()}])
