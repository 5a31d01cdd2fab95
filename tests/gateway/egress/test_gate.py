"""The socket of a turn's way out, when attempts of the turn overlap."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.abc
import pytest

from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.deliver.guard import Guard
from gateway.egress.gate import Gates, Way
from gateway.egress.policy import Policy


async def test_a_gate_that_closes_late_leaves_its_successors_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a worker that stood still while another one took its turn over."""
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    gates, way = Gates(Guard()), Way(Policy(), REHEARSAL, None, {}, tmp_path)
    socket, closes = tmp_path / "egress.sock", [anyio.Event(), anyio.Event()]
    closed = [anyio.Event(), anyio.Event()]

    async def attempt(number: int, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with gates.opened(way, lambda events: None, agent="mailer"):
            task_status.started()
            await closes[number].wait()
        closed[number].set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            await group.start(attempt, 0)
            await group.start(attempt, 1)
            closes[0].set()
            await closed[0].wait()
            assert socket.is_socket()
            async with await anyio.connect_unix("egress.sock") as stream:
                await stream.send(b"GET / HTTP/1.1\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 ")
            closes[1].set()
    assert not socket.exists()
