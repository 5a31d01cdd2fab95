"""Webhooks as owners see them: where events of tasks and sessions go, and what became of each delivery. No secrets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, tuple_

from gateway.clock import iso
from gateway.deliver.models import Destination, Outbox
from gateway.errors import InvalidParams
from gateway.owner.params import WebhooksDeliveries, WebhooksList
from registry import models

_config, _outbox = Destination.__table__, Outbox.__table__  # type: ignore[attr-defined]
_agent = models.Agent.__table__  # type: ignore[attr-defined]
_NAME = func.coalesce(_agent.c.name, _config.c.agent_id).label("agent")
_JOINED = _config.outerjoin(_agent, _agent.c.id == _config.c.agent_id)


def listing(conn: Connection, asked: WebhooksList) -> dict[str, Any]:
    """A page of destinations, newest first. `next` is where the next page begins."""
    query = select(_config, _NAME).select_from(_JOINED).order_by(_config.c.created_at.desc(), _config.c.id.desc())
    if asked.cursor is not None:
        at, _, id = asked.cursor.partition(".")
        query = query.where(tuple_(_config.c.created_at, _config.c.id) < tuple_(_number(at), id))
    rows = [row._mapping for row in conn.execute(query.limit(asked.limit + 1))]
    page = rows[: asked.limit]
    more = f"{page[-1]['created_at']}.{page[-1]['id']}" if len(rows) > len(page) else None
    return {"webhooks": [_webhook(conn, row) for row in page], "next": more}


def _webhook(conn: Connection, row: RowMapping) -> dict[str, Any]:
    count = select(_outbox.c.state, func.count()).where(_outbox.c.config_id == row["id"]).group_by(_outbox.c.state)
    states = {found[0]: found[1] for found in conn.execute(count)}
    return {
        "id": row["id"],
        "name": row["name"],
        "agent": row["agent"],
        "task_id": row["task_id"] or None,
        "session_id": row["session_id"],
        "principal": row["principal"],
        "url": row["url"],
        "version": row["version"] or None,
        "level": row["level"],
        "types": row["types"] or [],
        "authentication": row["scheme"] or None,
        "created_at": iso(row["created_at"]),
        "deliveries": states,
    }


def deliveries(conn: Connection, asked: WebhooksDeliveries) -> dict[str, Any]:
    """A page of deliveries, newest first."""
    joined = _outbox.join(_JOINED, _config.c.id == _outbox.c.config_id)
    query = select(_outbox, _config.c.url, _NAME).select_from(joined).order_by(_outbox.c.pos.desc()).limit(asked.limit + 1)
    if asked.state is not None:
        query = query.where(_outbox.c.state == asked.state)
    if asked.cursor is not None:
        query = query.where(_outbox.c.pos < _number(asked.cursor))
    rows = [row._mapping for row in conn.execute(query)]
    page = rows[: asked.limit]
    more = str(page[-1]["pos"]) if len(rows) > len(page) else None
    return {"deliveries": [_delivery(row) for row in page], "next": more}


def _delivery(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "state": row["state"],
        "attempts": row["attempts"],
        "agent": row["agent"],
        "webhook_id": row["config_id"],
        "url": row["url"],
        "session_id": row["session_id"],
        "task_id": row["task_id"] or None,
        "seq": row["seq"],
        "upto": row["upto"] or row["seq"],
        "part": row["part"],
        "created_at": iso(row["created_at"]),
        "next_at": iso(row["next_at"]) if row["state"] == "pending" and row["next_at"] else None,
        "settled_at": iso(row["settled_at"]) if row["settled_at"] else None,
        "error": row["last_error"] or None,
    }


def _number(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidParams(f"The cursor {cursor[:80]!r} is not one this API gave out.", "Begin without one.")
    return int(cursor)
