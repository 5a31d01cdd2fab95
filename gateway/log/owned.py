"""Tasks and contexts as their callers find them: one that is another's answers as one that there is not."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from gateway.errors import NotFound
from gateway.log.models import ANSWERED, Task

_task = Task.__table__  # type: ignore[attr-defined]
_OTHERS = "Ask as the caller who began it, and the agent it was begun with."


def task_of(conn: Connection, agent_id: str, principal: str, task_id: str) -> Any:
    """The row of a caller's task. Raises NotFound; what was answered by a message alone is no task, either."""
    mine = (_task.c.id == task_id, _task.c.agent_id == agent_id, _task.c.principal == principal)
    row = conn.execute(select(_task).where(*mine, _task.c.state != ANSWERED)).first()
    if row is None:
        raise no_task(task_id)
    return row


def no_task(id: str) -> NotFound:
    return NotFound(f"Task {id[:80]!r} was not found.", _OTHERS)


def no_context(id: str) -> NotFound:
    return NotFound(f"Context {id[:80]!r} was not found.", _OTHERS)
