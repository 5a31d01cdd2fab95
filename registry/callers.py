"""Callers in the database: who may call, by a key of which only a keyed hash is kept.

Plain functions of a connection, as in `registry.repo`. A caller's id is never used again: whoever is registered under
a name that was revoked sees nothing of the one before. Agents are kept by id, so that a right does not pass to another
agent of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from registry import models, repo
from registry.rules import Invalid, Missing, Taken

_CALLER = models.Caller.__table__  # type: ignore[attr-defined]
_AGENT = models.Agent.__table__  # type: ignore[attr-defined]
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62})")


@dataclass(frozen=True, slots=True)
class CallerRecord:
    id: str
    name: str
    key_id: str
    key_hash: str
    agents: tuple[str, ...] | None  # ids; None: every agent
    requests_per_minute: int | None
    running_tasks: int | None
    created_at: int
    rotated_at: int | None = None


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        rule = "Use 1 to 63 letters, digits and . _ @ -, a letter or digit first."
        raise Invalid(f"{name[:100]!r} cannot be the name of a caller.", rule)


def add(conn: Connection, new: CallerRecord) -> CallerRecord:
    """Raises Taken when a caller of that name is there."""
    if conn.execute(select(_CALLER.c.id).where(*_living(new.name))).first():
        hint = f"Choose another name, or run: switchboard callers rotate {new.name}"
        raise Taken(f"There is a caller named {new.name!r} already.", hint)
    values = {name: getattr(new, name) for name in CallerRecord.__dataclass_fields__}
    conn.execute(insert(_CALLER), values | {"agents": None if new.agents is None else list(new.agents)})
    return new


def rotate(conn: Connection, name: str, key_id: str, key_hash: str, now: int) -> CallerRecord:
    """The caller under a new key; the old one holds no longer. Raises Missing."""
    old = get(conn, name)
    conn.execute(update(_CALLER).where(_CALLER.c.id == old.id).values(key_id=key_id, key_hash=key_hash, rotated_at=now))
    return replace(old, key_id=key_id, key_hash=key_hash, rotated_at=now)


def revoke(conn: Connection, name: str, now: int) -> CallerRecord:
    """Raises Missing."""
    old = get(conn, name)
    conn.execute(update(_CALLER).where(_CALLER.c.id == old.id).values(revoked_at=now))
    return old


def get(conn: Connection, name: str) -> CallerRecord:
    """Raises Missing."""
    row = conn.execute(select(_CALLER).where(*_living(name))).first()
    if row is None:
        names = conn.execute(select(_CALLER.c.name).where(_CALLER.c.revoked_at.is_(None))).scalars().all()
        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Run: switchboard callers list"
        raise Missing(f"There is no caller named {name[:100]!r}.", hint)
    return _record(row)


def by_key(conn: Connection, key_id: str) -> CallerRecord | None:
    row = conn.execute(select(_CALLER).where(_CALLER.c.key_id == key_id, _CALLER.c.revoked_at.is_(None))).first()
    return None if row is None else _record(row)


def by_id(conn: Connection, id: str) -> CallerRecord | None:
    row = conn.execute(select(_CALLER).where(_CALLER.c.id == id, _CALLER.c.revoked_at.is_(None))).first()
    return None if row is None else _record(row)


def listing(conn: Connection) -> list[CallerRecord]:
    rows = conn.execute(select(_CALLER).where(_CALLER.c.revoked_at.is_(None)).order_by(_CALLER.c.name))
    return [_record(row) for row in rows]


def agent_ids(conn: Connection, names: Iterable[str]) -> tuple[str, ...]:
    """Raises Missing for a name no agent bears."""
    return tuple(dict.fromkeys(repo.get(conn, name).id for name in names))


def agent_names(conn: Connection) -> dict[str, str]:
    """id -> name of every living agent."""
    return {row.id: row.name for row in conn.execute(select(_AGENT.c.id, _AGENT.c.name).where(_AGENT.c.deleted_at.is_(None)))}


def _living(name: str) -> tuple[Any, ...]:
    return _CALLER.c.name == name, _CALLER.c.revoked_at.is_(None)


def _record(row: Row[Any]) -> CallerRecord:
    values = {name: row._mapping[name] for name in CallerRecord.__dataclass_fields__}
    agents = values["agents"]
    return CallerRecord(**values | {"agents": None if agents is None else tuple(agents)})
