"""Turns of agents that are given more than their session: mounts, volumes and how much of the machine they may use. [GND-1]"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.profile import Launch, Plan
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.turns import disk
from tests import needs
from tests.gateway.turns.calls import error_of, of_type, state_of
from tests.support import Client, Json, serving, text_of

SECONDS = 60
# Runs the prompt (no quotes, no backslashes) in any place that has a shell.
SHELL = """
IFS= read -r line; told=${line#*'"prompt":'}; told=${told#*'"'}; told=${told%%'"'*}
out=$(sh -c "$told" 2>&1; echo "[$?]")
printf '{"type": "chunk", "text": "%s"}\\n' "$(printf %s "$out" | tr '\\n' ' ')"
echo '{"type": "done", "yield_reason": "completed"}'
"""
_AGENT = ".switchboard/agent"


def _launch(plan: Plan) -> Launch:
    return Launch(("/bin/sh", f"{plan.home}/{_AGENT}"), files={_AGENT: SHELL}, keep_stdin=True)


SHELLS = {"rehearsal": replace(REHEARSAL, modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=_launch)}, executable="")}


@pytest.fixture(params=["sandboxed", "docker"])
def placed(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the agent is placed, and the gateway's settings for it."""
    if request.param == "docker":
        return {"placement": "docker", "agent_image": needs.an_engine()}
    needs.a_sandbox()
    return {"placement": "sandboxed"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory that agents may be given, which leads out of itself."""
    folder = tmp_path / "srv/data"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "note").write_text("here")
    (tmp_path / "secret").write_text("a secret")
    (folder / "out").symlink_to(tmp_path / "secret")
    return folder


def settings(data: Path, placed: dict[str, str]) -> dict[str, Any]:
    image = {"agent_image": placed["agent_image"]} if "agent_image" in placed else {}
    return {"mount_roots": str(data.parent), "container_network": "none", "data_dir": data.parents[1] / "gateway", **image}


def turned(data: Path, elsewhere: Path) -> None:
    data.rename(f"{data}-before")
    data.symlink_to(elsewhere)


async def made(gateway: Client, placed: dict[str, str], **more: Any) -> None:
    await gateway.owner("agent.create", name="shell", runtime="rehearsal", placement=placed["placement"], **more)


async def said(gateway: Client, command: str, **more: Any) -> str:
    with anyio.fail_after(SECONDS):
        task = await gateway.send("shell", command, **more)
    assert state_of(task) == "COMPLETED"
    return text_of(task)


async def told(gateway: Client, task: Json) -> str:
    return str([event["body"] for event in of_type(await gateway.events(task["contextId"]), "error_detail")])


async def test_a_mount_is_read_and_one_that_may_be_is_written(data: Path, placed: dict[str, str]) -> None:
    """What a link in it leads to is not there."""
    mounts = [{"source": str(data), "target": "/mnt/data"}]
    look = "cat /mnt/data/note; cat /mnt/data/out 2>/dev/null || echo -n no; echo new > /mnt/data/new"
    async with serving(**settings(data, placed), runtimes=SHELLS) as gateway:
        await made(gateway, placed, mounts=mounts)
        assert (await said(gateway, look)).startswith("hereno")
        assert not (data / "new").exists()
        await gateway.owner("agent.update", name="shell", changes={"mounts": [{**mounts[0], "writable": True}]})
        assert await said(gateway, look) == "hereno[0]"
    assert (data / "new").read_text() == "new\n"


async def test_a_mount_that_leads_elsewhere_by_now_is_refused(tmp_path: Path, data: Path, placed: dict[str, str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with serving(**settings(data, placed), runtimes=SHELLS) as gateway:
        await made(gateway, placed, mounts=[{"source": str(data), "target": "/mnt/data"}])
        turned(data, tmp_path / "elsewhere")
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "ls /mnt/data")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "startup_crash")
    assert "below none of the roots that agents may be given" in owner


async def test_a_runtime_that_is_installed_around_the_gateways_data_is_refused(data: Path) -> None:
    """[SBX-1]"""
    needs.a_sandbox()
    rehearsal = SHELLS["rehearsal"]

    def launch(plan: Plan) -> Launch:
        return replace(_launch(plan), sees=(str(data.parents[1]),))

    runtimes = {"rehearsal": replace(rehearsal, modes={"jsonl": replace(rehearsal.modes["jsonl"], launch=launch)})}
    async with serving(**settings(data, {}), runtimes=runtimes) as gateway:
        await made(gateway, {"placement": "sandboxed"})
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "ls")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "startup_crash")
    assert "that is not for agents" in owner


async def test_sessions_of_an_agent_share_its_volumes(data: Path, placed: dict[str, str]) -> None:
    async with serving(**settings(data, placed), runtimes=SHELLS) as gateway:
        await made(gateway, placed, volumes=[{"name": "cache", "target": "/mnt/cache"}])
        assert await said(gateway, "echo kept > /mnt/cache/note") == "[0]"
        assert await said(gateway, "cat /mnt/cache/note") == "kept [0]"


async def test_a_session_that_takes_too_much_disk_is_stopped(
    data: Path, placed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[GND-2]"""
    monkeypatch.setattr(disk, "LOOK_SECONDS", 0.1)
    async with serving(**settings(data, placed), runtimes=SHELLS, stop_seconds=0.1) as gateway:
        await made(gateway, placed, limits={"disk_mb": 3})
        with anyio.fail_after(SECONDS):
            task = await gateway.send("shell", "for n in 1 2 3 4; do head -c 1000000 /dev/zero > $n; done; sleep 300")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "budget_exceeded")
    assert "more than 3 MB (limit disk_mb)" in owner


async def test_a_container_is_given_as_much_as_its_agents_limits_say(data: Path) -> None:
    """[GND-2]"""
    placed = {"placement": "docker", "agent_image": needs.an_engine()}
    limits = {"memory_mb": 100, "cpus": 0.5, "pids": 40, "disk_mb": 1}
    files = "memory/memory.limit_in_bytes memory.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max pids/pids.max pids.max"
    look = f"cd /sys/fs/cgroup; cat {files} 2>/dev/null; cd; head -c 2000000 /dev/zero > big; ls -s big"
    async with serving(**settings(data, placed), runtimes=SHELLS, container_pids=30) as gateway:
        await made(gateway, placed, limits=limits)
        printed = (await said(gateway, look)).split()
    assert printed[:4] == [str(100 * 2**20), "50000", "100000", "30"]
    assert printed[-3:] == ["1024", "big", "[0]"]
