"""The session's log as an image reads it: what callers read, files by name only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio
from sqlalchemy import Connection

from gateway.clock import iso
from gateway.files.refs import STORED
from gateway.log.rows import Position, Row
from gateway.log.snapshot import page
from gateway.log.store import Log
from gateway.runtime_api.brain import Brain
from gateway.runtime_api.shapes import Page, Query, Told

Json = dict[str, Any]

PAGE = 1000
LOOK_SECONDS = 1.0  # what another process wrote may be told by nobody


async def read(log: Log, brain: Brain, asked: Query) -> Page:
    """A page; where `wait` says so, once there is something in it or in its control. Raises what the database does."""
    with log.hub.subscribe(brain.turn.session_id) as channel:
        with anyio.move_on_after(asked.wait):
            while not brain.has_news:
                changed, news = channel.changed, brain.news
                if await log.database.read(lambda conn: _rows(conn, brain.turn.session_id, asked.after, 1)):
                    break
                with anyio.move_on_after(LOOK_SECONDS):
                    await _either(changed, news)
                brain.check()
        found = await log.database.read(lambda conn: _rows(conn, brain.turn.session_id, asked.after, asked.limit + 1))
    rows = found[: asked.limit]
    cursor = rows[-1].seq if rows else asked.after
    return Page(events=[_told(row) for row in rows], cursor=cursor, more=len(found) > len(rows), control=brain.control())


def _rows(conn: Connection, session_id: str, after: int, limit: int) -> Sequence[Row]:
    """What callers read after a seq, at most so much of it."""
    rows: list[Row] = []
    position = Position(after, 2**31)
    while len(rows) < limit and (found := page(conn, session_id, position, PAGE)):
        rows += [row for row in found if row.level != "internal"]
        position = found[-1].position
    return rows[:limit]


async def _either(*events: anyio.Event) -> None:
    async with anyio.create_task_group() as group:

        async def wait(event: anyio.Event) -> None:
            await event.wait()
            group.cancel_scope.cancel()

        for event in events:
            group.start_soon(wait, event)


def _told(row: Row) -> Told:
    body = json.loads(row.body)
    about: Json = {"type": row.type, "level": row.level, "actor": row.actor, "turn_id": row.turn_id or None}
    told = _named(body) if f'"{STORED}"' in row.body else body
    return Told(seq=row.seq, task_id=row.task_id, at=iso(row.created_at), body=told, **about)


def _named(body: Json) -> Json:
    """A body with the name of each file in the place of the file. Only a part itself is one."""
    made = dict(body)
    for name in ("tasks", "artifacts", "history"):  # of a snapshot
        if name in made:
            made[name] = [_named(one) for one in made[name]]
    for name in ("parts", "message"):
        if isinstance(made.get(name), list):
            made[name] = [_name(part) if STORED in part else part for part in made[name]]
    return made


def _name(part: Json) -> Json:
    stored = part[STORED]
    about = {"metadata": part["metadata"]} if part.get("metadata") else {}
    return {"filename": stored["name"], "mediaType": stored["media_type"], "size": stored["size"], **about}
