"""Push configs: kept, found and forgotten, always by (agent, principal, task). Operations of a connection.

Token and credentials are sealed where they stand and never come back to a caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.clock import new_id, now_us
from gateway.deliver.models import Destination, Outbox
from gateway.errors import Conflict, NotFound
from gateway.log.owned import task_of
from gateway.log.store import locked
from registry.secrets import Secrets

MAX_CONFIGS = 10  # of one task

_config, _outbox = Destination.__table__, Outbox.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for, checked: it can be kept as it is."""

    name: str  # "": the task's id
    url: str
    origin: str
    token: str = field(default="", repr=False)
    scheme: str = ""
    credentials: str = field(default="", repr=False)
    version: str = "1.0"


@dataclass(frozen=True, slots=True)
class Kept:
    """A config as its caller may read it."""

    name: str
    task_id: str
    url: str
    scheme: str


def save(conn: Connection, secrets: Secrets, agent_id: str, principal: str, task_id: str, wanted: Wanted) -> Kept:
    """Keep a config, or change the one of that name. Raises NotFound, and Conflict when the task has too many."""
    session_id = task_of(conn, agent_id, principal, task_id).session_id
    locked(conn, session_id)  # an event is before this config, or is owed to it
    name = wanted.name or task_id
    old = conn.execute(select(_config.c.id).where(_config.c.task_id == task_id, _config.c.name == name)).scalar()
    if old is None:
        _check_room(conn, task_id)
    id, now = old or new_id("cfg"), now_us()
    box = secrets.box("push_config", id)
    values = {
        "url": wanted.url,
        "origin": wanted.origin,
        "token": box.seal("token", wanted.token) if wanted.token else "",
        "scheme": wanted.scheme,
        "credentials": box.seal("credentials", wanted.credentials) if wanted.credentials else "",
        "version": wanted.version,
        "updated_at": now,
    }
    if old is not None:
        conn.execute(update(_config).where(_config.c.id == id).values(values))
    else:
        belongs = {"session_id": session_id, "agent_id": agent_id, "principal": principal, "task_id": task_id}
        conn.execute(insert(_config).values(id=id, name=name, created_at=now, **belongs, **values))
    return Kept(name, task_id, wanted.url, wanted.scheme)


def listing(conn: Connection, agent_id: str, principal: str, task_id: str) -> list[Kept]:
    """Raises NotFound for a task that is not the caller's."""
    task_of(conn, agent_id, principal, task_id)
    rows = conn.execute(select(_config).where(_config.c.task_id == task_id).order_by(_config.c.created_at, _config.c.id))
    return [Kept(row.name, row.task_id, row.url, row.scheme) for row in rows]


def get(conn: Connection, agent_id: str, principal: str, task_id: str, name: str) -> Kept:
    """Raises NotFound."""
    found = next((kept for kept in listing(conn, agent_id, principal, task_id) if kept.name == name), None)
    if found is None:
        raise NotFound(f"Task {task_id!r} has no push notification config {name!r}.", "List them.")
    return found


def remove(conn: Connection, agent_id: str, principal: str, task_id: str, name: str) -> None:
    """Forget a config and all that is still owed to it. One there is not is gone already. Raises NotFound for the task."""
    locked(conn, task_of(conn, agent_id, principal, task_id).session_id)  # nobody owes it anything meanwhile
    mine = select(_config.c.id).where(_config.c.task_id == task_id, _config.c.name == name)
    conn.execute(delete(_outbox).where(_outbox.c.config_id.in_(mine)))
    conn.execute(delete(_config).where(_config.c.task_id == task_id, _config.c.name == name))


def seals(conn: Connection) -> bool:
    """Whether a destination of any kind has a secret."""
    sealed = (_config.c.token != "") | (_config.c.credentials != "")
    return conn.execute(select(_config.c.id).where(sealed).limit(1)).first() is not None


def _check_room(conn: Connection, task_id: str) -> None:
    count = conn.execute(select(func.count()).select_from(_config).where(_config.c.task_id == task_id)).scalar_one()
    if count >= MAX_CONFIGS:
        raise Conflict(f"Task {task_id!r} has {count} push notification configs already.", "Delete one first.")
