"""What a crash leaves at moments too short to be hit by chance."""

from __future__ import annotations

from pathlib import Path

import anyio
from sqlalchemy import Connection, select

from adapters import events as ev
from gateway.db.engine import Database
from gateway.log.models import Session, Task, Turn
from gateway.turns import leases, queue
from gateway.turns.spec import Inbound
from tests.support import serving

_session, _task, _turn = Session.__table__, Task.__table__, Turn.__table__  # type: ignore[attr-defined]


def states(conn: Connection) -> tuple[str, str, str]:
    """Of the one session, task and turn there are."""
    query = select(_session.c.status, _task.c.state, _turn.c.state).where(
        _task.c.session_id == _session.c.id, _turn.c.task_id == _task.c.id
    )
    session, task, turn = conn.execute(query).one()
    return session, task, turn


async def test_a_crash_between_a_turns_done_and_its_process_end_leaves_the_task_as_it_ended(database_url: str) -> None:
    """[INV-6]"""
    database = Database(database_url)
    await database.start()

    def die_after_done(conn: Connection) -> None:
        queue.accept(conn, "agt_1", 1, "anonymous", Inbound(({"text": "hello"},)), 10)
        (turn,) = queue.claim(conn, "wrk_dead", 1, 6)
        queue.finish(conn, turn, [ev.chunk("hi"), ev.done("completed")], None)

    def recover(conn: Connection) -> None:
        (turn,) = leases.take_over(conn, "wrk_new", leases.others(conn, ()), 6)
        queue.end_abandoned(conn, turn, "inc_1", "It died.")

    await database.write(die_after_done)
    assert await database.read(states) == ("idle", "completed", "running")
    await database.write(recover)
    assert await database.read(states) == ("idle", "completed", "ended")
    await database.aclose()


async def test_who_has_read_a_task_to_its_end_and_comes_back_is_not_kept_waiting(tmp_path: Path) -> None:
    """[A2A-3]"""
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "N=3")]
            last = {"Last-Event-ID": frames[-1].id}
            task_id = frames[0].result["task"]["id"]
            assert [f async for f in gateway.frames("hello", "SubscribeToTask", {"id": task_id}, last)] == []
