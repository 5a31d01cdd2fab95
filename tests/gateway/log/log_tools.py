"""A log on a database of its own, and entries to append to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from sqlalchemy import insert

from gateway.db.engine import Database
from gateway.log.models import Session
from gateway.log.rows import Batch, Entry, Position, Row
from gateway.log.store import Log, append
from tests.support import database_url

SESSION = Session.__table__  # type: ignore[attr-defined]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Log]:
    database = Database(database_url(folder))
    await database.start()
    try:
        with anyio.fail_after(30):
            yield Log(database)
    finally:
        await database.aclose()


def entry(level: str = "user", body: str = '{"text":"a"}') -> Entry:
    type = "thinking" if level == "internal" else "chunk"
    return Entry(type, level, "agent", body, "tsk_1", "trn_1", 1)


async def write(log: Log, session_id: str, entries: Iterable[Entry], fence: int | None = None) -> Batch:
    new = list(entries)
    batches = await log.write(lambda conn: [append(conn, session_id, new, fence)])
    return batches[0]


async def make_session(log: Log, session_id: str, fence: int) -> None:
    row = {"id": session_id, "agent_id": "agt_1", "agent_version": 1, "principal": "p", "status": "running", "native": {}}
    statement = insert(SESSION).values(**row, fence=fence, created_at=1, updated_at=1)
    await log.database.write(lambda conn: conn.execute(statement).close())


async def everything(log: Log, session_id: str) -> list[Row]:
    return await log.read(session_id, Position(0), 100_000)
