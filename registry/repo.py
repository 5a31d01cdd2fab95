"""Agents and runtimes in the database: plain functions of a connection, for `Database.write` and `Database.read`.

Versions are only ever added. Two updates at once both make a version, one after the other, unless one says which
version it was made from and that is no longer the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from registry import models
from registry.makeup import FACE, FIELDS, Makeup, differing
from registry.rules import Missing, Stale, Taken
from registry.secrets import Box, Secrets

_AGENT = models.Agent.__table__  # type: ignore[attr-defined]
_VERSION = models.AgentVersion.__table__  # type: ignore[attr-defined]
_RUNTIME = models.Runtime.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent at one of its versions. `updated_at` is when that version was made."""

    id: str
    name: str
    version: int
    makeup: Makeup
    changed: tuple[str, ...]  # fields this version changed
    created_at: int
    updated_at: int
    edition: int = 1  # version of the public face
    edition_at: int = 0

    def opened(self, secrets: Secrets) -> Makeup:
        """The make-up with every secret in the clear: for the runner only."""
        return self.makeup.opened(box(secrets, self.id))


@dataclass(frozen=True, slots=True)
class RuntimeSeen:
    path: str | None
    version: str | None
    checked_at: int


def box(secrets: Secrets, agent_id: str) -> Box:
    """Where an agent's secrets are sealed; all its versions share it, so that a value passes on unopened."""
    return secrets.box("agent_version", agent_id)


def create(conn: Connection, id: str, name: str, makeup: Makeup, changed: list[str], now: int) -> AgentRecord:
    """Raises Taken when an agent of that name lives."""
    if conn.execute(select(_AGENT.c.id).where(_AGENT.c.name == name, _AGENT.c.deleted_at.is_(None))).first():
        hint = f"Choose another name, or run: switchboard agent update {name}"
        raise Taken(f"There is an agent named {name!r} already.", hint)
    conn.execute(insert(_AGENT), {"id": id, "name": name, "version": 1, "created_at": now, "updated_at": now})
    record = AgentRecord(id, name, 1, makeup, tuple(changed), now, now, edition=1, edition_at=now)
    _insert_version(conn, record)
    return record


def change(
    conn: Connection, name: str, edit: Callable[[AgentRecord], Makeup], now: int, if_version: int | None = None
) -> tuple[AgentRecord, AgentRecord]:
    """The agent before and after `edit`; the same twice when nothing differs. Raises Missing or Stale."""
    old = get(conn, name)
    if if_version is not None and if_version != old.version:
        raise _stale(name, f"it is at version {old.version}, not {if_version}")
    makeup = edit(old)
    fields = differing(old.makeup, makeup)
    if not fields:
        return old, old
    new = replace(old, version=old.version + 1, makeup=makeup, changed=tuple(fields), updated_at=now)
    if FACE.intersection(fields):
        new = replace(new, edition=old.edition + 1, edition_at=now)
    held = (_AGENT.c.id == old.id) & (_AGENT.c.version == old.version)
    if conn.execute(update(_AGENT).where(held).values(version=new.version, updated_at=now)).rowcount != 1:
        raise _stale(name, "another change came first")
    _insert_version(conn, new)
    return old, new


def delete(conn: Connection, name: str, now: int) -> AgentRecord:
    """Nobody reaches it any more; its versions stay for the sessions that hold them. Raises Missing."""
    old = get(conn, name)
    conn.execute(update(_AGENT).where(_AGENT.c.id == old.id).values(deleted_at=now, updated_at=now))
    return old


def get(conn: Connection, name: str) -> AgentRecord:
    """The agent of that name at its current version. Raises Missing."""
    row = conn.execute(_living().where(_AGENT.c.name == name)).first()
    if row is None:
        raise missing(conn, name)
    return _record(row)


def by_id(conn: Connection, agent_id: str) -> AgentRecord | None:
    """The living agent of that id at its current version."""
    row = conn.execute(_living().where(_AGENT.c.id == agent_id)).first()
    return None if row is None else _record(row)


def get_version(conn: Connection, agent_id: str, version: int) -> AgentRecord:
    """An agent, deleted or not, at one version. Raises Missing."""
    held = (_VERSION.c.agent_id == agent_id) & (_VERSION.c.version == version)
    row = conn.execute(_SELECT.where(held)).first()
    if row is None:
        raise Missing(f"There is no version {version} of agent {agent_id!r}.", "See: switchboard agent versions NAME")
    return _record(row)


def listing(conn: Connection) -> list[AgentRecord]:
    """Every living agent at its current version, by name."""
    return [_record(row) for row in conn.execute(_living().order_by(_AGENT.c.name))]


def page(conn: Connection, after: str, limit: int) -> list[AgentRecord]:
    """Living agents whose names come after `after`, by name."""
    page = _living().where(_AGENT.c.name > after).order_by(_AGENT.c.name).limit(limit)
    return [_record(row) for row in conn.execute(page)]


def versions(conn: Connection, name: str) -> list[AgentRecord]:
    """The agent's versions, newest first. Raises Missing."""
    agent = get(conn, name)
    rows = conn.execute(_SELECT.where(_VERSION.c.agent_id == agent.id).order_by(_VERSION.c.version.desc()))
    return [_record(row) for row in rows]


def origins(conn: Connection, agent: AgentRecord) -> dict[str, int]:
    """Which version last set each field of `agent`."""
    held = (_VERSION.c.agent_id == agent.id) & (_VERSION.c.version <= agent.version)
    rows = conn.execute(select(_VERSION.c.version, _VERSION.c.changed).where(held).order_by(_VERSION.c.version))
    return {field: version for version, changed in rows for field in changed}


def missing(conn: Connection, name: str) -> Missing:
    """The error for an agent there is not, with the nearest name there is."""
    names = conn.execute(select(_AGENT.c.name).where(_AGENT.c.deleted_at.is_(None))).scalars().all()
    close = get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else "Run: switchboard agent list"
    return Missing(f"There is no agent named {name[:100]!r}.", hint)


def seals(conn: Connection) -> bool:
    """Whether a version of an agent that lives has a secret."""
    return any(_record(row).makeup.secret for row in conn.execute(_SELECT.where(_AGENT.c.deleted_at.is_(None))))


def saw_runtime(conn: Connection, name: str, path: str | None, version: str | None, now: int) -> None:
    values = {"path": path, "version": version, "checked_at": now}
    if conn.execute(update(_RUNTIME).where(_RUNTIME.c.name == name).values(**values)).rowcount == 0:
        conn.execute(insert(_RUNTIME), {"name": name, **values})


def seen_runtimes(conn: Connection) -> Mapping[str, RuntimeSeen]:
    return {row.name: RuntimeSeen(row.path, row.version, row.checked_at) for row in conn.execute(select(_RUNTIME))}


_SELECT: Select[Any] = select(
    _AGENT.c.name,
    _AGENT.c.created_at.label("agent_created_at"),
    *_VERSION.c,
).join_from(_VERSION, _AGENT, _VERSION.c.agent_id == _AGENT.c.id)


def _living() -> Select[Any]:
    return _SELECT.where(_VERSION.c.version == _AGENT.c.version, _AGENT.c.deleted_at.is_(None))


def _record(row: Row[Any]) -> AgentRecord:
    values = row._mapping
    makeup = Makeup(**{name: values[name] for name in FIELDS})
    times = (values["agent_created_at"], values["created_at"], values["edition"], values["edition_at"])
    return AgentRecord(values["agent_id"], values["name"], values["version"], makeup, tuple(values["changed"]), *times)


def _insert_version(conn: Connection, record: AgentRecord) -> None:
    values = {name: getattr(record.makeup, name) for name in FIELDS}
    place = {"agent_id": record.id, "version": record.version, "changed": list(record.changed), "created_at": record.updated_at}
    face = {"edition": record.edition, "edition_at": record.edition_at}
    conn.execute(insert(_VERSION), {**values, **place, **face})


def _stale(name: str, why: str) -> Stale:
    return Stale(
        f"Agent {name!r} was changed by somebody else: {why}.", f"Look at it and try again: switchboard agent show {name}"
    )


def ever_any(conn: Connection) -> bool:
    """Whether an agent was ever registered, deleted ones included."""
    return conn.execute(select(_AGENT.c.id).limit(1)).first() is not None
