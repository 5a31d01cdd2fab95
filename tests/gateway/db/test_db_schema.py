"""The schema: what the migrations make is what the models say, whatever stood there before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlmodel import SQLModel

import gateway.log.models  # noqa: F401  (fills the metadata)
import registry.models  # noqa: F401
from gateway.db.engine import Database
from gateway.errors import Unavailable, UsageError
from tests.postgres import PostgresServer


async def differences(database: Database) -> list[Any]:
    def op(conn: Connection) -> list[Any]:
        context = MigrationContext.configure(
            conn, opts={"compare_type": True, "compare_server_default": conn.dialect.name == "sqlite"}
        )
        found: list[Any] = compare_metadata(context, SQLModel.metadata)
        return found

    return await database.read(op)


async def test_the_migrations_make_what_the_models_say(database_url: str) -> None:
    database = Database(database_url)
    await database.start()
    assert await differences(database) == []
    await database.aclose()


async def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    dumps = []
    for _ in range(2):
        database = Database(f"sqlite:///{tmp_path / 'a.db'}")
        await database.start()
        await database.aclose()
        with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
            dumps.append(list(connection.iterdump()))
    assert dumps[0] == dumps[1]


async def test_two_gateways_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / 'a.db'}") for _ in range(3)]
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for database in databases:
                group.start_soon(database.start)
    assert await differences(databases[0]) == []
    for database in databases:
        await database.aclose()


async def test_two_gateways_that_start_at_once_on_an_empty_server_make_one_schema(postgres: PostgresServer) -> None:
    url = postgres.url(postgres.create("template0"))
    databases = [Database(url) for _ in range(3)]
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for database in databases:
                group.start_soon(database.start)
    assert await differences(databases[0]) == []
    for database in databases:
        await database.aclose()


async def test_a_migration_that_fails_leaves_nothing_half_made(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("CREATE TABLE turn (in_the_way)")  # the fifth table the first migration makes
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(Unavailable):
        await database.start()
    await database.aclose()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("turn",)]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "postgresql://", "nonsense", ""])
def test_a_database_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Database(url)
    assert repr(url) in caught.value.message
