"""A database that cannot be used says so: Unavailable, and nothing was stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, func, insert, select

from gateway.db.engine import Database
from gateway.errors import Unavailable
from registry.models import Runtime

RUNTIME = Runtime.__table__  # type: ignore[attr-defined]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{path}")
    await database.start()
    try:
        with anyio.fail_after(20):
            yield database
    finally:
        await database.aclose()


def add(conn: Connection, name: str, size: int) -> None:
    conn.execute(insert(RUNTIME).values(name=name, path="x" * size, checked_at=0))


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(RUNTIME)).scalar_one()


@pytest.mark.parametrize("size", [100_000, 40_000_000], ids=["at the commit", "in the middle of an operation"])
async def test_a_full_disk_refuses_what_does_not_fit_and_goes_on_when_there_is_room(small_disk: Path, size: int) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    stored = 0

    async def fill() -> None:
        nonlocal stored
        while True:
            await database.write(partial(add, name=str(stored), size=size))
            stored += 1

    async with opened(small_disk / "a.db") as database:
        with pytest.raises(Unavailable, match="full"):
            await fill()
        with pytest.raises(Unavailable, match="full"):
            await database.write(lambda conn: add(conn, "still too large", size))
        assert await database.read(count) == stored
        ballast.unlink()
        await database.write(lambda conn: add(conn, "small", 1))
        assert await database.read(count) == stored + 1


async def test_a_full_disk_refuses_only_what_does_not_fit(small_disk: Path) -> None:
    async with opened(small_disk / "a.db") as database:
        refused: list[str] = []

        async def write(name: str, size: int) -> None:
            try:
                await database.write(lambda conn: add(conn, name, size))
            except Unavailable:
                refused.append(name)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(write, f"small {number}", 10)
                group.start_soon(write, f"large {number}", 4_000_000)
        assert sorted(refused) == [f"large {number}" for number in range(5)]
        assert await database.read(count) == 5


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"this is no database, it is a letter. " * 1000)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(Unavailable):
        await database.start()
    await database.aclose()


async def test_a_directory_in_the_files_place_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "a.db").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(Unavailable):
        await database.start()
    await database.aclose()


async def test_a_database_that_may_only_be_read_refuses_writes_and_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as database:
        await database.write(lambda conn: add(conn, "a", 1))
        await database.write(lambda conn: conn.exec_driver_sql("PRAGMA query_only=ON").close())
        with pytest.raises(Unavailable):
            await database.write(lambda conn: add(conn, "b", 1))
        assert await database.read(count) == 1


async def test_a_table_that_is_damaged_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as database:
        for number in range(50):
            await database.write(lambda conn, number=number: add(conn, str(number), 10_000))  # type: ignore[misc]
    page = 4096
    data = bytearray(path.read_bytes())
    data[page:] = b"\xff" * (len(data) - page)  # the first page, with the schema, stays
    path.write_bytes(bytes(data))
    database = Database(f"sqlite:///{path}")
    with pytest.raises(Unavailable):
        await database.start()
    await database.aclose()
