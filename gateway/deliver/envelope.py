"""What is posted: the envelope around a run of a session's events, and the headers of every delivery.

An envelope has the form Standard Webhooks asks for, `type`, `timestamp`, `data`, and is made from the log: the same
in every try, but for URLs of files, which hold for a while only.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select

from gateway.clock import iso, now_us
from gateway.db.engine import Database
from gateway.deliver.destinations import LEVELS
from gateway.deliver.outbox import Due
from gateway.deliver.sender import signature
from gateway.files.shown import Shown
from gateway.log.models import EventRow, Session
from registry.models import Agent
from registry.secrets import Secrets

_event, _session, _agent = EventRow.__table__, Session.__table__, Agent.__table__  # type: ignore[attr-defined]
_TOLD = ("seq", "id", "type", "level", "actor", "task_id", "turn_id")


def headers(secrets: Secrets, due: Due, body: bytes) -> dict[str, str]:
    """Raises RegistryError where a secret does not open."""
    box, at = secrets.box("push_config", due.config_id), now_us() // 1_000_000
    made = {"Content-Type": "application/json", "User-Agent": "Switchboard"}
    made |= {"webhook-id": due.id, "webhook-timestamp": str(at)}
    token = box.open("token", due.token) if due.token else ""
    signed = signature([token] if due.task_id else token.split(), due.id, at, body)
    if signed:
        made["webhook-signature"] = signed
    if token and due.task_id:
        made["X-A2A-Notification-Token"] = token
    if due.scheme and due.credentials:
        made["Authorization"] = f"{due.scheme} {box.open('credentials', due.credentials)}"
    return made


async def envelope(database: Database, files: Shown, due: Due) -> bytes | None:
    """A run of events. None where nothing of it is left."""

    def op(conn: Connection) -> tuple[list[Any], dict[str, Any]]:
        return list(conn.execute(_run_of(due)).mappings()), _about(conn, due.session_id)

    rows, session = await database.read(op)
    bodies = await files.bodies([json.loads(row["body"]) for row in rows])
    if not rows:
        return None
    events = [_shown(row, body) for row, body in zip(rows, bodies, strict=True)]
    data = {"destination": due.config_id, "session": session, "events": events}
    return dumps({"type": "session.events", "timestamp": events[-1]["created_at"], "data": data})


def _run_of(due: Due) -> Any:
    row = _event.c
    where = [row.session_id == due.session_id, row.seq.between(due.seq, due.upto), row.sub == 0]
    where.append(row.level.in_(LEVELS[due.level or "progress"]))
    if due.types:
        where.append(row.type.in_(due.types))
    return select(_event).where(*where).order_by(row.seq)


def _about(conn: Connection, session_id: str) -> dict[str, Any]:
    query = select(_session, _agent.c.name).join_from(_session, _agent, _agent.c.id == _session.c.agent_id, isouter=True)
    row = conn.execute(query.where(_session.c.id == session_id)).mappings().one()
    return {"id": session_id, "agent": row["name"], "metadata": row["meta"] or {}}


def _shown(row: Any, body: dict[str, Any]) -> dict[str, Any]:
    return {**{name: row[name] for name in _TOLD}, "body": body, "created_at": iso(row["created_at"])}


def ping(due: Due) -> bytes:
    """What a receiver is tried with."""
    return dumps({"type": "ping", "timestamp": iso(now_us()), "data": {"destination": due.config_id}})


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
