"""The disk of the database is full while a turn runs, and then there is room again; nothing is restarted."""

from __future__ import annotations

import base64
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from tests.crash.witness import check_log
from tests.gateway.sessions.api import Api
from tests.gateway.turns.calls import Call, calling, make_agent, speaks, state_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.gateway.turns.test_turns_failures import fill
from tests.postgres import PostgresServer
from tests.support import serving

# No room is found for it in what the database has of the disk already, and it cannot be made smaller.
LARGE = base64.b64encode(Random(1).randbytes(30_000)).decode()


@dataclass
class Full:
    """A database on a small disk."""

    data_dir: Path
    disk: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ballast(self) -> Path:
        return self.disk / "ballast"


@pytest.fixture(params=["sqlite", "postgresql"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Full]:
    if request.param == "sqlite":
        disk: Path = request.getfixturevalue("small_disk")
        yield Full(disk, disk)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    disk = Path(tempfile.mkdtemp(dir=server.folder))
    disk.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    space = disk / "space"
    space.mkdir()
    user = pwd.getpwuid(server.folder.stat().st_uid)
    os.chown(space, user.pw_uid, user.pw_gid)
    server.sql("postgres", f"CREATE TABLESPACE small LOCATION '{space}'")
    server.sql("postgres", "CREATE DATABASE small TEMPLATE migrated TABLESPACE small")
    try:
        yield Full(tmp_path, disk, {"database_url": server.url("small")})
    finally:
        server.drop("small")
        server.sql("postgres", "DROP TABLESPACE small")
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


async def test_a_turn_waits_for_room_and_nothing_new_is_accepted_meanwhile(small: Full) -> None:
    """[LEASE-5] [INV-1]"""
    async with serving(small.data_dir, RUNTIMES, lease_seconds=30, **small.settings) as gateway:
        await make_agent(gateway, "parrot", "parrot")
        await gateway.sign_in()
        api = Api(gateway)
        pieces = [chunk(f"{number}{LARGE}") for number in range(3)]
        with anyio.fail_after(60):
            async with calling(gateway, say(chunk("first "), ["wait", "go"], *pieces, DONE), agent="parrot") as call:
                await call.until(speaks)
                fill(small.ballast)
                (workspace_of(small, call) / "go").touch()
                refused = [await api.ask("POST", "", {"agent": "hello", "input": 3 * LARGE}) for _ in range(2)]
                waiting = state_of(await gateway.get("parrot", call.task["id"]))
                small.ballast.unlink()
            listed = (await api.get(""))["sessions"]
            after = await gateway.send("hello", "N=1")
            events = await gateway.events(call.task["contextId"])
    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in refused] == [(503, "1")] * 2
    assert waiting == "WORKING"
    assert call.states[-1] == "COMPLETED"
    assert call.text == "first " + "".join(f"{number}{LARGE}" for number in range(3))
    assert [session["id"] for session in listed] == [call.task["contextId"]]
    assert state_of(after) == "COMPLETED"
    check_log(events)


async def test_a_turn_that_finds_no_room_for_longer_than_a_lease_ends_when_there_is_some(small: Full) -> None:
    """[LEASE-5] [INV-6]"""
    lease = {"lease_seconds": 1.5, "stop_seconds": 0.2, "turn_attempts": 1}
    async with serving(small.data_dir, RUNTIMES, **lease, **small.settings) as gateway:
        await make_agent(gateway, "parrot", "parrot")
        with anyio.fail_after(60):
            async with calling(gateway, say(chunk("first "), ["wait", "go"], chunk(LARGE), DONE), agent="parrot") as call:
                await call.until(speaks)
                (held,) = gateway.engine.worker._held.values()
                fill(small.ballast)
                (workspace_of(small, call) / "go").touch()
                await held.finished.wait()
                small.ballast.unlink()
            after = await gateway.send("hello", "N=1")
            events = await gateway.events(call.task["contextId"])
    assert call.states[-1] == "FAILED"
    assert call.text == "first "
    assert state_of(after) == "COMPLETED"
    check_log(events)


def workspace_of(small: Full, call: Call) -> Path:
    return small.data_dir / "sessions" / call.task["contextId"] / "work"
