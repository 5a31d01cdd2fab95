"""Workers that have one data directory, on one machine or on several. [RUN-9]"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.runtime_api import server
from gateway.runtime_api.server import listening_in


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path has at most 107 bytes: the tests name theirs from here."""
    monkeypatch.chdir(tmp_path)


def left(path: Path) -> None:
    """What a worker leaves that was killed, or one of another machine has: nobody answers here."""
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def test_only_what_a_worker_of_this_machine_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot, run = tmp_path / "boot", tmp_path / "run"
    monkeypatch.setattr(server, "BOOT_ID", boot)
    boot.write_text("here\n", "ascii")
    with listening_in(run) as (_, path):
        pass
    left(path)
    boot.write_text("elsewhere\n", "ascii")
    with listening_in(run):
        assert path.is_socket()
    boot.write_text("here\n", "ascii")
    with listening_in(run) as (_, other):
        assert other.is_socket()
        assert not path.exists()
    assert not other.exists()


def test_a_worker_that_does_not_take_connections_keeps_its_socket(tmp_path: Path) -> None:
    """Its queue is full: it stands still."""
    with listening_in(tmp_path) as (listening, path):
        listening.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(os.path.relpath(path))
            with listening_in(tmp_path):
                assert path.is_socket()


def test_where_no_kernel_tells_its_start_nobody_elses_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BOOT_ID", tmp_path / "none")
    with listening_in(tmp_path / "run") as (_, path):
        pass
    left(path)
    with listening_in(tmp_path / "run"):
        assert path.is_socket()
