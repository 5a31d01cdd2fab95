"""Tasks as callers see them: found by (agent, principal), folded from the log on demand.

Files stand in folds and snapshots as references, and are put in (`files`) when a task is handed out.
The fold of a long task that rests (it has ended, or waits for input) is kept in its row as long as it is the whole story.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from a2a.types import a2a_pb2 as pb
from sqlalchemy import ColumnElement, Connection, func, select, tuple_, update

from gateway import cursors
from gateway.a2a.translate import STATES, Fold, Json, artifact_id, begins_anew
from gateway.db.engine import Database
from gateway.errors import InvalidParams, Unavailable
from gateway.files.shown import Shown
from gateway.log.models import ANSWERED, EventRow, Task
from gateway.log.owned import task_of
from gateway.log.rows import Position
from gateway.log.store import read

PAGE = 1000
KEEP_FROM = 100  # events of a task from which on its fold is kept
ACTIVE = frozenset({"submitted", "working"})
STATE_NAMES = frozenset(pb.TaskState.keys())
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


@dataclass(frozen=True, slots=True)
class Place:
    """A reader's place in a task."""

    session_id: str
    rests: bool  # the task has ended, or waits for input
    last_seq: int  # of the task, or of its session while it works
    begun: set[str]  # the artifact that may go on after it, if one has begun: only a turn's own text is appended


def check_state(value: object) -> None:
    """Raises InvalidParams for the name of a state there is none of: the SDK's parsers take it for no filter at all."""
    known = value in STATE_NAMES or value.isdecimal() if isinstance(value, str) else not isinstance(value, bool)
    if not known:
        raise InvalidParams(
            f"status {str(value)[:80]!r} is not a state of a task.", "Write it like TASK_STATE_WORKING, or leave it out."
        )


class Tasks:
    def __init__(self, database: Database, files: Shown) -> None:
        self._database, self.files = database, files

    async def get(self, caller: Caller, task_id: str) -> Found:
        """The task as it is. Raises NotFound for a wrong id, and for a task that is not the caller's."""

        def op(conn: Connection) -> tuple[Found, bool]:
            row = task_of(conn, caller.agent_id, caller.principal, task_id)
            found = _folded(conn, row)
            return found, row.snapshot is None and _worth_keeping(row, found.position.seq)

        found, keep = await self._database.read(op)
        if keep:
            await self._keep(found.task, found.position.seq)
        return replace(found, task=await self.files.task(found.task))

    async def at(self, task_id: str, seq: int) -> Json:
        """The task as it was right after its event `seq`."""

        task, keep = await self._database.read(lambda conn: _at(conn, task_id, seq))
        if keep:
            await self._keep(task, seq)
        return await self.files.task(task)

    async def kept(self, task_id: str, floor: int) -> Found | None:
        """The task as it was kept, if its events up to `floor` went into the archive."""
        query = select(_task).where(_task.c.id == task_id, _task.c.first_seq <= floor, _task.c.snapshot.is_not(None))
        row = await self._database.read(lambda conn: conn.execute(query).first())
        if row is None:
            return None
        task = await self.files.task(row.snapshot)
        return Found(task, row.state, row.session_id, Position(row.snapshot_seq))

    async def freeze(self, session_id: str) -> None:
        """Keep the folds of all tasks of a session that rest: its events are about to go."""
        unkept = select(_task.c.id, _task.c.snapshot_seq).where(_task.c.session_id == session_id, _task.c.snapshot.is_(None))
        for row in await self._database.read(lambda conn: conn.execute(unkept.where(_task.c.state.not_in(ACTIVE))).all()):
            task = await self._database.read(lambda conn, row=row: _at(conn, row.id, row.snapshot_seq)[0])  # type: ignore[misc]
            await self._database.write(lambda conn, row=row, task=task: _keep(conn, task, row.snapshot_seq))  # type: ignore[misc]

    async def _keep(self, task: Json, seq: int) -> None:
        with suppress(Unavailable):  # it saves the next reader the fold, no more
            await self._database.write(lambda conn: _keep(conn, task, seq))

    async def list(
        self, caller: Caller, *, context_id: str = "", state: str = "", since_us: int = 0, limit: int = 50, token: str = ""
    ) -> tuple[list[Json], str, int]:
        """(tasks newest first, the next page's token or "", how many there are in all)."""
        where: list[ColumnElement[bool]] = [_task.c.agent_id == caller.agent_id, _task.c.principal == caller.principal]
        where.append(_task.c.state != ANSWERED)
        if context_id:
            where.append(_task.c.session_id == context_id)
        if state:
            where.append(_task.c.state == _STATE_OF.get(state, state))
        if since_us:
            where.append(_task.c.updated_at >= since_us)
        tasks, token, total = await self._database.read(lambda conn: _list(conn, where, limit, token))
        return await self.files.tasks(tasks), token, total

    async def place(self, caller: Caller, task_id: str, seq: int) -> Place:
        """Where somebody stands who has read a task up to `seq`; as cheap for a long task as for a short one."""
        return await self._database.read(lambda conn: _place(conn, caller, task_id, seq))


def _place(conn: Connection, caller: Caller, task_id: str, seq: int) -> Place:
    row = task_of(conn, caller.agent_id, caller.principal, task_id)
    session, rests = _event.c.session_id == row.session_id, row.state not in ACTIVE
    last = row.snapshot_seq if rests else conn.execute(select(func.max(_event.c.seq)).where(session)).scalar_one()
    near = (session, _event.c.seq <= seq, _event.c.sub == 0, _event.c.task_id == task_id)
    kinds = _event.c.type.in_(("chunk", "turn_started"))
    query = select(_event.c.seq, _event.c.type, _event.c.turn_id, _event.c.body).where(*near, kinds)
    query = query.order_by(_event.c.seq.desc()).limit(1)
    found = conn.execute(query).first()
    while found is not None and found.type == "turn_started" and not begins_anew(found.type, found.body):
        found = conn.execute(query.where(_event.c.seq < found.seq)).first()
    begun = {artifact_id(found.turn_id)} if found is not None and found.type == "chunk" else set()
    return Place(row.session_id, rests, last, begun)


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


def _at(conn: Connection, task_id: str, seq: int) -> tuple[Json, bool]:
    """A task as it was after `seq`, and whether that is worth keeping."""
    row = conn.execute(select(_task).where(_task.c.id == task_id)).one()
    if row.snapshot is not None and row.snapshot_seq == seq:
        return row.snapshot, False
    fold, _ = _fold(conn, row, seq)
    return fold.task, _worth_keeping(row, seq)


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
        where = [
            *where,
            tuple_(_task.c.updated_at, _task.c.id) < tuple_(*cursors.after(token, "pageToken", "Begin without one.")),
        ]
    order = (_task.c.updated_at.desc(), _task.c.id.desc())
    rows = conn.execute(select(_task).where(*where).order_by(*order).limit(limit + 1)).all()
    page = rows[:limit]
    token = cursors.cursor(page[-1].updated_at, page[-1].id) if len(rows) > limit else ""
    return [_folded(conn, row).task for row in page], token, total
