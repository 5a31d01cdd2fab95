"""What stands for events that are no longer in the log: one `snapshot` in their place.

`session.floor_seq` is the last event that went into the archive. Whoever reads from before it is given the snapshot,
numbered as that event, and then what follows. It is made when it is read and holds the session's tasks as they were
kept, the newest `MAX_TASKS` of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from gateway.log.models import Session, Task
from gateway.log.rows import Position, Row
from gateway.log.store import encode, read

MAX_TASKS = 100
SNAPSHOT = "snapshot"

_session, _task = Session.__table__, Task.__table__  # type: ignore[attr-defined]


def page(conn: Connection, session_id: str, after: Position, limit: int) -> list[Row]:
    """The rows after a position, as `read` has them; the snapshot first where some of them are gone.

    What callers read has no gaps and the last event is always kept, so a gap is where the archive begins. While the log is
    pruned some of what the archive has is still there: it is passed over.
    """
    rows = read(conn, session_id, after, limit)
    if begins_later(rows, after):
        kept = snapshot(conn, session_id)
        return [kept, *read(conn, session_id, Position(kept.seq, 2**31), limit)]
    return rows


def begins_later(rows: Sequence[Row], after: Position) -> bool:
    """Whether some of what follows a position is gone."""
    return bool(rows) and rows[0].position > Position(after.seq + 1)


def snapshot(conn: Connection, session_id: str) -> Row:
    session = conn.execute(select(_session).where(_session.c.id == session_id)).one()
    floor = session.floor_seq
    mine = (_task.c.session_id == session_id, _task.c.first_seq <= floor)
    count = conn.execute(select(func.count()).select_from(_task).where(*mine)).scalar_one()
    newest = select(_task.c.snapshot).where(*mine).order_by(_task.c.first_seq.desc()).limit(MAX_TASKS)
    tasks = list(conn.execute(newest).scalars())[::-1]
    body = encode({"upto": floor, "tasks": tasks, "older_tasks": count - len(tasks)})
    return Row(session_id, floor, 0, f"snapshot-{floor}", None, None, SNAPSHOT, "user", "system", body, session.updated_at)
