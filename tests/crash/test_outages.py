"""PostgreSQL dies under load and comes back, a few times; `make crash` does it more often."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.crash.found import Found
from tests.crash.gateways import gateways
from tests.crash.outages import outage, outages, with_grpc
from tests.crash.seeds import seeded
from tests.crash.witness import AGENT
from tests.postgres import PostgresServer, postgres_server
from tests.support import Born, Frame, streamed_text


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server one may kill."""
    with postgres_server() as server:
        yield server


async def test_a_database_that_dies_costs_nobody_what_was_acknowledged(
    tmp_path: Path, own_server: PostgresServer, born: Born
) -> None:
    """[AWAY-1] [INV-1] [INV-2] [INV-6]"""
    await outages(tmp_path, Found("outages", 2), seeded(), own_server, born)


async def test_a_stream_stays_open_while_the_database_is_away(tmp_path: Path, own_server: PostgresServer, born: Born) -> None:
    """[AWAY-1] [LEASE-5]"""
    env = {"SWITCHBOARD_DATABASE_URL": own_server.url(own_server.create())}
    frames: list[Frame] = []
    async with gateways(tmp_path, random.Random(1), 1, env, born) as all, anyio.create_task_group() as group:
        await with_grpc(all, all.all[0])
        client = await all.one()
        speaks = anyio.Event()

        async def read() -> None:
            async for frame in client.stream(AGENT, "N=300 D=5000"):
                frames.append(frame)
                if streamed_text(frames):
                    speaks.set()

        with anyio.fail_after(60):
            group.start_soon(read)
            await speaks.wait()
            await outage(all, own_server, random.Random(1), Found("outage", 1))
    assert streamed_text(frames) == "".join(f"word{number} " for number in range(300))
