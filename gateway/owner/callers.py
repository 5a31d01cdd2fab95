"""What the callers' methods do: a key is made here, answered once, and kept nowhere."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from gateway.auth.callers import Pepper
from gateway.clock import iso, new_id, now_us
from gateway.owner.context import Owner
from gateway.owner.params import CallersAdd
from registry import callers as repo
from registry.callers import CallerRecord


async def add(owner: Owner, asked: CallersAdd) -> dict[str, Any]:
    """Raises Conflict for a name that is taken, NotFound for an agent there is not."""
    repo.check_name(asked.name)
    key, id, now = Pepper.load(owner.settings.callers_key_file).new_key(), new_id("cal"), now_us()

    def write(conn: Connection) -> dict[str, Any]:
        agents = None if asked.agents is None else repo.agent_ids(conn, asked.agents)
        limits = (asked.requests_per_minute, asked.running_tasks)
        made = repo.add(conn, CallerRecord(id, asked.name, key.id, key.hash, agents, *limits, created_at=now))
        return _view(made, repo.agent_names(conn))

    return {**await owner.database.write(write), "key": key.key}


async def rotate(owner: Owner, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    key = Pepper.load(owner.settings.callers_key_file).new_key()

    def write(conn: Connection) -> dict[str, Any]:
        return _view(repo.rotate(conn, name, key.id, key.hash, now_us()), repo.agent_names(conn))

    return {**await owner.database.write(write), "key": key.key}


async def revoke(owner: Owner, name: str) -> dict[str, Any]:
    """Raises NotFound."""
    gone = await owner.database.write(lambda conn: repo.revoke(conn, name, now_us()))
    return {"name": name, "principal": _principal(gone), "revoked": True}


def listing(conn: Connection) -> dict[str, Any]:
    names = repo.agent_names(conn)
    return {"callers": [_view(caller, names) for caller in repo.listing(conn)]}


def _view(caller: CallerRecord, names: dict[str, str]) -> dict[str, Any]:
    agents = None if caller.agents is None else sorted(names[id] for id in caller.agents if id in names)
    return {
        "name": caller.name,
        "principal": _principal(caller),
        "key_id": caller.key_id,
        "agents": agents,
        "requests_per_minute": caller.requests_per_minute,
        "running_tasks": caller.running_tasks,
        "created_at": iso(caller.created_at),
        "rotated_at": caller.rotated_at and iso(caller.rotated_at),
    }


def _principal(caller: CallerRecord) -> str:
    """As it stands on sessions."""
    return f"caller:{caller.id}"
