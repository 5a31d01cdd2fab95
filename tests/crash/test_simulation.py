"""Some schedules of the simulation in every run of the suite; `make crash` plays ten thousand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gateway.log.store
from tests.crash import simulation
from tests.crash.simulated.database import memory
from tests.crash.simulated.world import World

ROUNDS = 150


def test_nothing_is_lost_doubled_or_stuck_whatever_fails_when() -> None:
    """[INV-2] [INV-3] [INV-6] [LEASE-2] [RESUME-2]"""
    assert simulation.main(ROUNDS, 1, processes=2) == 0


def test_a_seed_plays_the_same_schedule_again(tmp_path: Path) -> None:
    conn = memory()
    told: list[list[str]] = [[], []]
    for trace in told:
        World(7, conn, tmp_path, trace).run()
    assert told[0] == told[1] != []


def test_a_log_without_fences_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the simulation is there to find, it finds."""
    honest = gateway.log.store.locked

    def unfenced(conn: Any, session_id: str, fence: int | None = None) -> int | None:
        return honest(conn, session_id)

    monkeypatch.setattr(gateway.log.store, "locked", unfenced)
    conn = memory()
    assert any(World(seed, conn, tmp_path).run() for seed in range(1, 200))
