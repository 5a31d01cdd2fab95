"""Tasks as callers see them: found by (agent, principal), folded from the log on demand.

The fold of a long task that rests (it has ended, or waits for input) is kept in its row as long as it is the whole story.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, tuple_, update

from gateway.a2a.translate import STATES, Fold, Json, artifact_id
from gateway.db.engine import Database
from gateway.errors import InvalidParams, NotFound, Unavailable
from gateway.log.models import EventRow, Task
from gateway.log.rows import Position
from gateway.log.store import read

PAGE = 1000
KEEP_FROM = 100  # events of a task from which on its fold is kept
ACTIVE = frozenset({"submitted", "working"})
_task = Task.__table__  # type: ignore[attr-defined]
_event = EventRow.__table__  # type: ignore[attr-defined]
_STATE_OF = {value: key for key, value in STATES.items()}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose tasks: every task belongs to an agent and a principal."""

    agent_id: str
    principal: str


@dataclass(frozen=True, slots=True)
class Found:
    """A task, and the position in its session's log up to which it was folded."""

    task: Json
    state: str
    session_id: str
    position: Position


class Tasks:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, caller: Caller, task_id: str) -> Found:
        """The task as it is. Raises NotFound for a wrong id, and for a task that is not the caller's."""
        mine = (_task.c.id == task_id, _task.c.agent_id == caller.agent_id, _task.c.principal == caller.principal)

        def op(conn: Connection) -> tuple[Found, bool]:
            row = conn.execute(select(_task).where(*mine)).first()
            if row is None:
                raise NotFound(f"Task {task_id[:80]!r} was not found.")
            found = _folded(conn, row)
            return found, row.snapshot is None and _worth_keeping(row, found.position.seq)

        found, keep = await self._database.read(op)
        if keep:
            await self._keep(found.task, found.position.seq)
        return found

    async def at(self, task_id: str, seq: int) -> Json:
        """The task as it was right after its event `seq`."""

        def op(conn: Connection) -> tuple[Json, bool]:
            row = conn.execute(select(_task).where(_task.c.id == task_id)).one()
            if row.snapshot is not None and row.snapshot_seq == seq:
                return row.snapshot, False
            fold, _ = _fold(conn, row, seq)
            return fold.task, _worth_keeping(row, seq)

        task, keep = await self._database.read(op)
        if keep:
            await self._keep(task, seq)
        return task

    async def _keep(self, task: Json, seq: int) -> None:
        with suppress(Unavailable):  # it saves the next reader the fold, no more
            await self._database.write(lambda conn: _keep(conn, task, seq))

    async def list(
        self, caller: Caller, *, context_id: str = "", state: str = "", since_us: int = 0, limit: int = 50, token: str = ""
    ) -> tuple[list[Json], str, int]:
        """(tasks newest first, the next page's token or "", how many there are in all)."""
        where: list[ColumnElement[bool]] = [_task.c.agent_id == caller.agent_id, _task.c.principal == caller.principal]
        if context_id:
            where.append(_task.c.session_id == context_id)
        if state:
            where.append(_task.c.state == _STATE_OF.get(state, state))
        if since_us:
            where.append(_task.c.updated_at >= since_us)
        return await self._database.read(lambda conn: _list(conn, where, limit, token))

    async def artifacts_at(self, session_id: str, task_id: str, upto: int) -> set[str]:
        """Ids of the turns' artifacts that had begun at `upto`."""
        mine = (_event.c.session_id == session_id, _event.c.seq <= upto, _event.c.task_id == task_id, _event.c.type == "chunk")
        query = select(_event.c.turn_id).distinct().where(*mine)
        turns = await self._database.read(lambda conn: conn.execute(query).scalars().all())
        return {artifact_id(turn_id) for turn_id in turns}


def _fold(conn: Connection, row: Any, upto: int = 2**62) -> tuple[Fold, Position]:
    fold, position = Fold(row.id, row.session_id), Position(row.first_seq - 1, 2**31)
    while position.seq < upto and (rows := read(conn, row.session_id, position, PAGE)):
        fold.add(found for found in rows if found.seq <= upto)
        position = rows[-1].position
    return fold, position


def _folded(conn: Connection, row: Any) -> Found:
    if row.state in ACTIVE:
        fold, position = _fold(conn, row)
        return Found(fold.task, row.state, row.session_id, position)
    task = row.snapshot or _fold(conn, row, row.snapshot_seq)[0].task
    return Found(task, row.state, row.session_id, Position(row.snapshot_seq))


def _worth_keeping(row: Any, seq: int) -> bool:
    """Whether a fold up to `seq` is all of a task that rests, and takes longer to make than to keep."""
    return row.state not in ACTIVE and row.snapshot_seq == seq and seq - row.first_seq >= KEEP_FROM


def _keep(conn: Connection, task: Json, seq: int) -> None:
    """Keep a fold, unless the task has gone on meanwhile."""
    rests = (_task.c.id == task["id"], _task.c.state.not_in(ACTIVE), _task.c.snapshot_seq == seq)
    conn.execute(update(_task).where(*rests).values(snapshot=task))


def _list(conn: Connection, where: list[ColumnElement[bool]], limit: int, token: str) -> tuple[list[Json], str, int]:
    total = conn.execute(select(func.count()).select_from(_task).where(*where)).scalar_one()
    if token:
        where = [*where, tuple_(_task.c.updated_at, _task.c.id) < tuple_(*_parse_token(token))]
    order = (_task.c.updated_at.desc(), _task.c.id.desc())
    rows = conn.execute(select(_task).where(*where).order_by(*order).limit(limit + 1)).all()
    page = rows[:limit]
    token = _token(page[-1]) if len(rows) > limit else ""
    return [_folded(conn, row).task for row in page], token, total


def _token(row: Any) -> str:
    return base64.urlsafe_b64encode(f"{row.updated_at} {row.id}".encode()).decode()


def _parse_token(token: str) -> tuple[int, str]:
    try:
        updated_at, _, id = base64.urlsafe_b64decode(token.encode()).decode().partition(" ")
        at = int(updated_at)
    except (ValueError, binascii.Error) as exc:
        raise InvalidParams(f"pageToken {token[:80]!r} is not one this agent gave out.", "Begin without one.") from exc
    return min(max(at, 0), 2**62), id
