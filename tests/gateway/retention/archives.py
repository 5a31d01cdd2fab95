"""A gateway whose sessions were worked in and closed, and a keeper that stands beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import func, select

from gateway.a2a.tasks import Tasks
from gateway.db.engine import Database
from gateway.files.links import Links
from gateway.files.shown import Shown
from gateway.files.store import Disk
from gateway.log.models import EventRow
from gateway.log.rows import Position, Row
from gateway.log.store import read
from gateway.retention.keeper import Keeper
from gateway.settings import Settings
from tests.support import Client, Json, serving

NOW = 1e-9  # days: whatever has closed is due
_event = EventRow.__table__  # type: ignore[attr-defined]


@dataclass
class Stage:
    client: Client
    database: Database  # the gateway's, opened once more
    keeper: Keeper

    async def send(self, text: str, **more: Any) -> Json:
        """A task that has ended, and whose process is gone."""
        task = await self.client.send("hello", text, **more)
        while True:
            if all(turn["state"] == "ended" for turn in (await self.show(task["contextId"]))["turns"]):
                return task
            await anyio.sleep(0.01)  # there is no event for a row

    async def show(self, session_id: str) -> Json:
        shown: Json = await self.client.owner("sessions.show", id=session_id)
        return shown

    async def rows(self, session_id: str) -> list[Row]:
        """The log as it stands in the database, all levels."""
        return await self.database.read(lambda conn: read(conn, session_id, Position(0), 100_000))

    async def count(self, session_id: str) -> int:
        query = select(func.count()).select_from(_event).where(_event.c.session_id == session_id)
        return int(await self.database.read(lambda conn: conn.execute(query).scalar_one()))


@asynccontextmanager
async def keeping(data_dir: Path, **more: Any) -> AsyncIterator[Stage]:
    settings = Settings(data_dir=data_dir, retention_days=NOW, **more)
    with anyio.fail_after(60):
        async with serving(data_dir, **more) as client:
            database = Database(settings.database)
            await database.start()
            try:
                yield Stage(client, database, Keeper(database, settings, Tasks(database, _files(settings)).freeze))
            finally:
                await database.aclose()


def _files(settings: Settings) -> Shown:
    return Shown(Disk(settings.files_dir), Links(settings.url, b"key"), settings.inline_file_bytes)
