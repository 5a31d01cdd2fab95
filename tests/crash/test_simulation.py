"""Some schedules of the simulation in every run of the suite; `make crash` plays thousands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gateway.log.store
from gateway.db.postgres import Postgres
from tests.crash import simulation
from tests.crash.seeds import seeded
from tests.crash.simulated.database import Memory
from tests.crash.simulated.remote import Remote
from tests.crash.simulated.world import World
from tests.postgres import PostgresServer


@pytest.fixture
def remote(postgres: PostgresServer) -> Iterator[Remote]:
    name = postgres.create()
    remote = Remote(postgres.url(name))
    yield remote
    remote.close()
    postgres.drop(name)


def test_nothing_is_lost_doubled_or_stuck_whatever_fails_when() -> None:
    """[INV-2] [INV-3] [INV-6] [LEASE-2] [RESUME-2]"""
    assert simulation.main(60, seeded().randrange(10**6), processes=2) == 0


def test_nothing_is_lost_doubled_or_stuck_on_postgresql(tmp_path: Path, remote: Remote) -> None:
    """[INV-2] [INV-3] [INV-6] [LEASE-2] [RESUME-2]"""
    first = seeded().randrange(10**6)
    assert [World(seed, remote, tmp_path).run() for seed in range(first, first + 3)] == [[]] * 3


def test_a_seed_plays_the_same_schedule_again(tmp_path: Path) -> None:
    store = Memory()
    told: list[list[str]] = [[], []]
    for trace in told:
        World(7, store, tmp_path, trace).run()
    assert told[0] == told[1] != []


def test_a_seed_plays_the_same_schedule_again_on_postgresql(tmp_path: Path, remote: Remote) -> None:
    told: list[list[str]] = [[], []]
    for trace in told:
        World(7, remote, tmp_path, trace).run()
    assert told[0] == told[1] != []


def test_a_log_without_fences_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the simulation is there to find, it finds."""
    honest = gateway.log.store.locked

    def unfenced(conn: Any, session_id: str, fence: int | None = None) -> int | None:
        return honest(conn, session_id)

    monkeypatch.setattr(gateway.log.store, "locked", unfenced)
    store = Memory()
    assert any(World(seed, store, tmp_path).run() for seed in range(1, 200))


def test_a_commit_that_is_taken_for_lost_does_not_pass(tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control on PostgreSQL: its connections break where it matters."""

    async def lost(_self: Postgres, _number: str) -> bool:
        return False

    monkeypatch.setattr(Postgres, "_stored", lost)
    assert any(World(seed, remote, tmp_path).run() for seed in range(1, 40))
