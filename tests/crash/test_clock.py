"""The wall clock of a machine, and of a database server, is set an hour ahead and back while turns run."""

from __future__ import annotations

import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.crash.test_workers import calling, final_state, holder, rest_of, until_a_tool_runs, workers
from tests.crash.witness import check_log
from tests.gateway.turns.calls import of_type
from tests.postgres import binaries, postgres_server
from tests.support import Json, gateway_process

SHIM = Path(__file__).with_name("jumping_clock.c")
HOUR = 3600


class Ahead:
    """By how many seconds the clock of everything that is started is ahead."""

    def __init__(self, folder: Path) -> None:
        self.file, self.library = folder / "ahead", folder / "jumping_clock.so"
        self.set(0)
        folder.chmod(0o755)  # the database server is another user
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-w", "-o", self.library, SHIM, "-ldl"], check=True)

    def set(self, seconds: int) -> None:
        """In place: it is mapped."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ahead]:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        ahead = Ahead(Path(folder))
        monkeypatch.setenv("LD_PRELOAD", str(ahead.library))
        monkeypatch.setenv("CLOCK_AHEAD", str(ahead.file))
        yield ahead


@pytest.fixture(params=["sqlite", "postgresql"])
def shifted_database(request: pytest.FixtureRequest, ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of either kind; a server has its own clock, which is set like the others."""
    if request.param == "sqlite":
        yield
    elif binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    else:
        with postgres_server() as server:
            monkeypatch.setenv("SWITCHBOARD_DATABASE_URL", server.url("migrated"))
            yield


@pytest.mark.usefixtures("shifted_database")
async def test_a_clock_that_jumps_neither_ends_a_lease_nor_keeps_it(tmp_path: Path, ahead: Ahead) -> None:
    """[LEASE-1] [LEASE-7]"""
    front = gateway_process(tmp_path, {"SWITCHBOARD_WORKER": "false"})
    with front as gateway, workers(tmp_path, 2, lease_seconds="1.5") as two:
        async with calling(gateway) as client:
            frames = await until_a_tool_runs(client.stream("mine", "N=2 SLEEPTOOL=2"))
            ahead.set(HOUR)
            await anyio.sleep(1)  # several looks at leases that seem to be long over
            ahead.set(-HOUR)
            frames = await rest_of(client, frames)
            assert final_state(frames) == "TASK_STATE_COMPLETED"
            events = await client.events(frames[0].result["task"]["contextId"])
            assert attempts(events) == [1]
            assert went_back(events)

            frames = await until_a_tool_runs(client.stream("mine", "N=2 SLEEPTOOL=600"))
            session_id = frames[0].result["task"]["contextId"]
            ahead.set(-2 * HOUR)
            victim = holder(two)
            victim.send(signal.SIGSTOP)
            with anyio.fail_after(20):
                while attempts(await client.events(session_id)) != [1, 2]:  # noqa: ASYNC110  (nothing is told of an attempt)
                    await anyio.sleep(0.1)
            victim.send(signal.SIGCONT)
            await anyio.to_thread.run_sync(victim.wait_for, "turn_superseded")
            await client.rpc("mine", "CancelTask", {"id": frames[0].result["task"]["id"]})
            check_log(await client.events(session_id))


def attempts(events: list[Json]) -> list[int]:
    return [event["body"]["attempt"] for event in of_type(events, "turn_started")]


def went_back(events: list[Json]) -> bool:
    """The clock was really set: an event seems to be older than the one before."""
    times = [event["created_at"] for event in events]
    return times != sorted(times)
