"""Runtimes that are images: pushed under a name, in versions that never change. Plain functions of a connection.

A new session gets the runtime's current version and keeps it. A push makes a new one current, a rollback an earlier one.
A deprecated version still runs the sessions that have it, and cannot be made current.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from registry.models import AgentVersion, PushedRuntime, RuntimeVersion
from registry.rules import Invalid, Missing, Stale, listed

CAPABILITIES = ("steer", "mcp")
ACTIVE, DEPRECATED = "active", "deprecated"

_RUNTIME = PushedRuntime.__table__  # type: ignore[attr-defined]
_VERSION = RuntimeVersion.__table__  # type: ignore[attr-defined]
_AGENT = AgentVersion.__table__.c  # type: ignore[attr-defined]
_OF_AGENT = (
    select(_RUNTIME.c.version)
    .join_from(_RUNTIME, AgentVersion.__table__, _AGENT.runtime == _RUNTIME.c.name)  # type: ignore[attr-defined]
    .where(_AGENT.agent_id == bindparam("agent_id"), _AGENT.version == bindparam("agent_version"))
)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class Image:
    """What is pushed. `digest` is what the engine runs; `env_names` are variables its agents should have."""

    image: str
    digest: str
    providers: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    env_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a runtime; `current`: the one new sessions get."""

    name: str
    version: int
    image: Image
    state: str
    current: bool
    created_at: int


def push(conn: Connection, name: str, image: Image, now: int) -> Version:
    """A new version, current from now on. The same image with the same facts once more is no new one. Raises Invalid."""
    check(name, image)
    latest = conn.execute(select(func.max(_VERSION.c.version)).where(_VERSION.c.name == name)).scalar()
    if latest is None:
        conn.execute(insert(_RUNTIME), {"name": name, "version": 1, "created_at": now, "updated_at": now})
        return _add(conn, name, 1, image, now)
    last = get(conn, name, latest)
    if last.image == image and last.state == ACTIVE:
        _make_current(conn, name, latest, now)
        return replace(last, current=True)
    added = _add(conn, name, latest + 1, image, now)
    _make_current(conn, name, added.version, now)
    return added


def check(name: str, image: Image) -> None:
    """Whether the name is taken by a built-in runtime, and providers, is the caller's to check."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name[:100]!r} cannot be the name of a runtime.", "Use 1 to 63 of a-z, 0-9 and hyphens.")
    unknown = sorted(set(image.capabilities) - set(CAPABILITIES))
    if unknown:
        raise Invalid(f"There is no capability {unknown[0][:100]!r}.", f"Choose from: {listed(CAPABILITIES)}.")
    for env in image.env_names:
        if not _ENV.fullmatch(env):
            raise Invalid(f"{env[:100]!r} cannot be the name of a variable.", "Use letters, digits and underscores.")


def find(conn: Connection, name: str, version: int | None = None) -> Version | None:
    """A version, by default the current one; None where there is none."""
    query = _SELECT.where(_VERSION.c.name == name)
    query = query.where(_VERSION.c.version == (_RUNTIME.c.version if version is None else version))
    row = conn.execute(query).first()
    return None if row is None else _version(row)


def get(conn: Connection, name: str, version: int | None = None) -> Version:
    """Raises Missing."""
    found = find(conn, name, version)
    if found is not None:
        return found
    if version is not None and find(conn, name) is not None:
        raise Missing(f"There is no version {version} of runtime {name!r}.", f"Run: switchboard runtimes versions {name}")
    names = conn.execute(select(_RUNTIME.c.name)).scalars().all()
    close = get_close_matches(name, names, n=1)
    raise Missing(f"There is no runtime {name[:100]!r}.", f"Did you mean {close[0]!r}?" if close else "")


def versions(conn: Connection, name: str) -> list[Version]:
    """The newest first. Raises Missing."""
    get(conn, name)
    rows = conn.execute(_SELECT.where(_VERSION.c.name == name).order_by(_VERSION.c.version.desc()))
    return [_version(row) for row in rows]


def listing(conn: Connection) -> list[Version]:
    """Every runtime at its current version, by name."""
    rows = conn.execute(_SELECT.where(_VERSION.c.version == _RUNTIME.c.version).order_by(_VERSION.c.name))
    return [_version(row) for row in rows]


def make_current(conn: Connection, name: str, version: int, now: int) -> Version:
    """A rollback, or the way back. Raises Missing, and Stale for a deprecated version."""
    found = get(conn, name, version)
    if found.state == DEPRECATED:
        raise Stale(f"Version {version} of runtime {name!r} is deprecated.", f"Run: switchboard runtimes versions {name}")
    _make_current(conn, name, version, now)
    return replace(found, current=True)


def deprecate(conn: Connection, name: str, version: int) -> Version:
    """Raises Missing, and Stale for the current version."""
    found = get(conn, name, version)
    if found.current:
        hint = f"Make another one current first: switchboard runtimes rollback {name} VERSION"
        raise Stale(f"Version {version} of runtime {name!r} is the one new sessions get.", hint)
    held = (_VERSION.c.name == name) & (_VERSION.c.version == version)
    conn.execute(update(_VERSION).where(held).values(state=DEPRECATED))
    return replace(found, state=DEPRECATED)


def current_of_agent(conn: Connection, agent_id: str, version: int) -> int | None:
    """The version a new session of an agent version gets of its runtime; None where that is no image."""
    found: int | None = conn.execute(_OF_AGENT, {"agent_id": agent_id, "agent_version": version}).scalar()
    return found


def _make_current(conn: Connection, name: str, version: int, now: int) -> None:
    conn.execute(update(_RUNTIME).where(_RUNTIME.c.name == name).values(version=version, updated_at=now))


def _add(conn: Connection, name: str, version: int, image: Image, now: int) -> Version:
    lists: dict[str, Sequence[str]] = {
        "providers": list(image.providers),
        "capabilities": list(image.capabilities),
        "env_names": list(image.env_names),
    }
    row: dict[str, Any] = {"name": name, "version": version, "image": image.image, "digest": image.digest, **lists}
    conn.execute(insert(_VERSION), {**row, "state": ACTIVE, "created_at": now})
    return Version(name, version, image, ACTIVE, True, now)


def _version(row: Any) -> Version:
    image = Image(row.image, row.digest, tuple(row.providers), tuple(row.capabilities), tuple(row.env_names))
    return Version(row.name, row.version, image, row.state, row.version == row.current_version, row.created_at)


_SELECT = select(*_VERSION.c, _RUNTIME.c.version.label("current_version")).join_from(
    _VERSION, _RUNTIME, _VERSION.c.name == _RUNTIME.c.name
)
