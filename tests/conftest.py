"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer, binaries, postgres_server

# A shell that runs this in the background has its children ignore Ctrl-C, which tests send to their own.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole run. Where PostgreSQL is not installed its tests are skipped, but never in CI."""
    if binaries() is None:
        missing = "PostgreSQL is not installed; try: apt-get install postgresql"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a fresh database, of either kind; what the test starts uses it unless told otherwise."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'switchboard.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    monkeypatch.setenv("SWITCHBOARD_DATABASE_URL", server.url(name))
    yield server.url(name)
    server.drop(name)
