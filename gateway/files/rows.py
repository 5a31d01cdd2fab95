"""Rows of files: operations of a connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from gateway.clock import now_us
from gateway.files.models import File
from gateway.files.refs import Kept
from gateway.log.models import Session

_file, _session = File.__table__, Session.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Found:
    kept: Kept
    agent_id: str
    principal: str


def add(conn: Connection, session_id: str, task_id: str, files: Iterable[Kept]) -> None:
    """In the transaction of the events that name the files; they belong to whom the session belongs to."""
    held = [asdict(file) for file in files]
    if not held:
        return
    owner = conn.execute(select(_session.c.agent_id, _session.c.principal).where(_session.c.id == session_id)).one()
    whose = {**owner._mapping, "session_id": session_id, "task_id": task_id, "created_at": now_us()}
    conn.execute(insert(_file), [{**file, **whose} for file in held])


def get(conn: Connection, id: str) -> Found | None:
    row = conn.execute(select(_file).where(_file.c.id == id)).first()
    if row is None:
        return None
    return Found(Kept(row.id, row.name, row.media_type, row.size, row.sha256), row.agent_id, row.principal)


def named(conn: Connection, hashes: list[str]) -> set[str]:
    """Which of these contents some file has."""
    return set(conn.execute(select(_file.c.sha256).where(_file.c.sha256.in_(hashes)).distinct()).scalars())


def forget(conn: Connection, session_id: str) -> int:
    """Remove a session's files; the sweep removes the bytes no other file has. Answers how many files."""
    return int(conn.execute(delete(_file).where(_file.c.session_id == session_id)).rowcount)
