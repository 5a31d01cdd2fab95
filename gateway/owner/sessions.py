"""Sessions as owners read them, straight from the log's tables. Owners see every level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, select, tuple_

from gateway import cursors
from gateway.clock import iso
from gateway.errors import InvalidParams, NotFound
from gateway.log.models import EventRow, Session, Task, Turn
from gateway.log.rows import Position
from gateway.log.snapshot import snapshot
from gateway.owner.params import SessionsEvents, SessionsList
from gateway.retention.models import Archived
from gateway.retention.usage import Usage
from registry import models, repo

_S = Session.__table__  # type: ignore[attr-defined]
_TASK = Task.__table__  # type: ignore[attr-defined]
_TURN = Turn.__table__  # type: ignore[attr-defined]
_E = EventRow.__table__  # type: ignore[attr-defined]
_ARCHIVE = Archived.__table__  # type: ignore[attr-defined]
_AGENT = models.Agent.__table__  # type: ignore[attr-defined]
_VERSION = models.AgentVersion.__table__  # type: ignore[attr-defined]

_LEVELS = {"user": ("user",), "progress": ("user", "progress"), "internal": ("user", "progress", "internal")}
MAX_TITLE = 80

_FIRST_IN_LOG = (
    select(_E.c.body)
    .where(_E.c.session_id == _S.c.id, _E.c.type == "message")
    .order_by(_E.c.seq, _E.c.sub)
    .limit(1)
    .scalar_subquery()
)
_FIRST_ARCHIVED = (
    select(_ARCHIVE.c.message).where(_ARCHIVE.c.session_id == _S.c.id).order_by(_ARCHIVE.c.first_seq).limit(1).scalar_subquery()
)
_FIRST_MESSAGE = func.coalesce(_FIRST_ARCHIVED, _FIRST_IN_LOG)
_TURNS = select(func.count()).where(_TURN.c.session_id == _S.c.id).scalar_subquery()
_NAME = func.coalesce(_AGENT.c.name, _S.c.agent_id).label("agent")


def listing(conn: Connection, asked: SessionsList) -> dict[str, Any]:
    """A page of sessions, newest first. Raises NotFound for an agent there never was, InvalidParams for a bad cursor."""
    query = select(_S, _NAME, _FIRST_MESSAGE.label("message"), _TURNS.label("turns")).select_from(_with_agent())
    query = query.order_by(_S.c.created_at.desc(), _S.c.id.desc()).limit(asked.limit + 1)
    if asked.agent is not None:
        query = query.where(_S.c.agent_id.in_(_agent_ids(conn, asked.agent)))
    if asked.status is not None:
        query = query.where(_S.c.status == asked.status)
    if asked.cursor is not None:
        query = query.where(tuple_(_S.c.created_at, _S.c.id) < tuple_(*cursors.after(asked.cursor)))
    rows = [row._mapping for row in conn.execute(query)]
    page = rows[: asked.limit]
    more = len(rows) > len(page)
    return {
        "sessions": [_line(row) for row in page],
        "next": cursors.cursor(page[-1]["created_at"], page[-1]["id"]) if more else None,
    }


def show(conn: Connection, id: str, sessions_dir: Path) -> dict[str, Any]:
    """Raises NotFound."""
    row = _session(conn, id)
    tasks = conn.execute(select(_TASK).where(_TASK.c.session_id == id).order_by(_TASK.c.created_at, _TASK.c.id))
    turns = conn.execute(select(_TURN).where(_TURN.c.session_id == id).order_by(_TURN.c.ordinal))
    return {
        "id": id,
        "agent": row["agent"],
        "agent_version": row["agent_version"],
        "runtime": row["runtime"],
        "status": row["status"],
        "principal": row["principal"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "floor": row["floor_seq"],
        "workspace": str(sessions_dir / id / "work"),
        "tasks": [_task(task._mapping) for task in tasks],
        "turns": [_turn(turn._mapping) for turn in turns],
        "usage": _usage(conn, id),
    }


def events(conn: Connection, asked: SessionsEvents) -> dict[str, Any]:
    """The events after a position. `next` is where to go on, also when nothing came. Raises NotFound, InvalidParams."""
    after, floor = _position(asked.after), _session(conn, asked.id)["floor_seq"]
    start = after if after.seq >= floor else Position(floor, 2**31)  # what is not pruned yet is in the archive all the same
    query = (
        select(_E)
        .where(_E.c.session_id == asked.id, tuple_(_E.c.seq, _E.c.sub) > tuple_(*start))
        .where(_E.c.level.in_(_LEVELS[asked.level]))
        .order_by(_E.c.seq, _E.c.sub)
        .limit(asked.limit)
    )
    found = [_event(row._mapping) for row in conn.execute(query)]
    if start != after:
        found.insert(0, _event(snapshot(conn, asked.id)._asdict()))
    last = Position(found[-1]["seq"], found[-1]["sub"]) if found else after
    return {"events": found, "next": str(last)}


def exists(conn: Connection, id: str) -> None:
    """Raises NotFound."""
    _session(conn, id)


def _with_agent() -> Any:
    return _S.outerjoin(_AGENT, _AGENT.c.id == _S.c.agent_id)


def _session(conn: Connection, id: str) -> RowMapping:
    version = (_VERSION.c.agent_id == _S.c.agent_id) & (_VERSION.c.version == _S.c.agent_version)
    query: Select[Any] = select(_S, _NAME, _VERSION.c.runtime).select_from(_with_agent().outerjoin(_VERSION, version))
    row = conn.execute(query.where(_S.c.id == id)).first()
    if row is None:
        raise NotFound(f"There is no session {id[:100]!r}.", "Run: switchboard sessions list")
    return row._mapping


def _agent_ids(conn: Connection, name: str) -> list[str]:
    """Every agent that bears or bore the name."""
    ids = list(conn.execute(select(_AGENT.c.id).where(_AGENT.c.name == name)).scalars())
    if not ids:
        raise repo.missing(conn, name)
    return ids


def _line(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "agent": row["agent"],
        "version": row["agent_version"],
        "status": row["status"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
        "turns": row["turns"],
        "title": _title(row["message"]),
    }


def _title(body: str | None) -> str:
    """The first line of what was asked."""
    parts = json.loads(body).get("parts", []) if body else []
    text = next((part["text"] for part in parts if isinstance(part.get("text"), str)), "").strip()
    line = text.split("\n", 1)[0]
    return line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1] + "…"


def _task(row: RowMapping) -> dict[str, Any]:
    times = {name: iso(row[name]) for name in ("created_at", "updated_at")}
    return {"id": row["id"], "state": row["state"], **times}


def _turn(row: RowMapping) -> dict[str, Any]:
    plain = {name: row[name] for name in ("id", "task_id", "state", "attempt")}
    times = {name: row[name] and iso(row[name]) for name in ("started_at", "ended_at")}
    return {**plain, **times, "yield_reason": row["yield_reason"], "error": row["error"]}


def _event(row: RowMapping | dict[str, Any]) -> dict[str, Any]:
    plain = {name: row[name] for name in ("seq", "sub", "id", "type", "level", "actor", "task_id", "turn_id")}
    return {**plain, "body": json.loads(row["body"]), "created_at": iso(row["created_at"])}


def _usage(conn: Connection, id: str) -> dict[str, Any]:
    """What all turns used together; cost is null where no turn told it."""
    used = Usage()
    for body in conn.execute(select(_ARCHIVE.c.usage).where(_ARCHIVE.c.session_id == id)).scalars():
        used.add(body)
    for body in conn.execute(select(_E.c.body).where(_E.c.session_id == id, _E.c.type == "usage")).scalars():
        used.add(body)
    return used.to_json()


def _position(after: str | None) -> Position:
    try:
        return Position.parse(after) if after is not None else Position(0)
    except ValueError as exc:
        raise InvalidParams(f"{after!r} is not a position.", "Give seq.sub, such as 7.0, or what next said.") from exc
