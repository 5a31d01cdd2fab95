"""The containers of the sandbox: they outlive turns, sleep when nobody needs them, and go in the end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from sqlalchemy import delete

from adapters.launch import hands
from adapters.launch.container import Engine
from adapters.launch.hands import HANDS
from gateway.hands.tools import Result
from gateway.log.models import Session
from gateway.turns import disk
from tests import needs
from tests.gateway.hands.stage import SPEC, Brain, Stage, staged, worker
from tests.gateway.hands.test_hands_calls import until
from tests.images import built


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, needs.an_engine(), hands_idle_seconds=100, hands_keep_seconds=1000) as stage:
        yield stage


async def host(stage: Stage, brain: Brain) -> str:
    """Names the container."""
    return (await stage.call(brain, "bash", command="hostname")).output


async def states(stage: Stage) -> list[bool]:
    await stage.hands.sweep()
    return [one.running for one in await stage.containers()]


async def test_a_container_sleeps_between_turns_and_wakes_with_what_it_had(stage: Stage) -> None:
    """[HAND-6]"""
    brain = await stage.begin()
    before = await host(stage, brain)
    await stage.call(brain, "bash", command="echo kept > ~/note; echo kept > note; sleep 300 &")
    await stage.end(brain, idle=50)
    assert await states(stage) == [True]
    await stage.end(brain, idle=200)
    assert await states(stage) == [False]
    brain = await stage.begin(brain.turn.session_id)
    assert (await stage.call(brain, "bash", command="cat ~/note note; ps -e | grep -c sleep")).output == "kept\nkept\n1\n"
    assert await host(stage, brain) == before
    assert await states(stage) == [True]


async def test_a_session_at_work_keeps_its_container_however_long(stage: Stage) -> None:
    brain = await stage.begin()
    before = await host(stage, brain)
    await stage.end(brain, idle=5000)
    again = await stage.begin(brain.turn.session_id)
    assert await states(stage) == [True]
    assert await host(stage, again) == before


@pytest.mark.parametrize("how", ["old", "archived", "gone"])
async def test_a_container_nobody_wants_any_more_is_removed(stage: Stage, how: str) -> None:
    """[HAND-6]"""
    brain, other = await stage.begin(), await stage.begin()
    for one in (brain, other):
        await host(stage, one)
    await stage.end(brain, idle=2000 if how == "old" else 0, status="archived" if how == "archived" else "idle")
    if how == "gone":
        await stage.database.write(
            lambda conn: conn.execute(delete(Session).where(Session.id == brain.turn.session_id)).close()
        )  # type: ignore[arg-type]
    await stage.hands.sweep()
    assert [one.session for one in await stage.containers()] == [other.turn.session_id]


async def test_a_session_that_begins_a_turn_while_others_are_put_to_sleep_keeps_its_container(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[HAND-6] At another worker, which tells nobody."""
    for _ in range(2):
        brain = await stage.begin()
        await host(stage, brain)
        await stage.end(brain, idle=200)
    there, real = await stage.containers(), hands.stop
    begun: list[str] = []

    async def stop(engine: Engine, id: str) -> None:
        if not begun:
            begun.extend(one.session for one in there if one.id != id)
            await stage.begin(begun[0])
        await real(engine, id)

    monkeypatch.setattr(hands, "stop", stop)
    await stage.hands.sweep()
    assert [one.session for one in await stage.containers() if one.running] == begun


async def test_another_worker_finds_the_container_of_a_session(stage: Stage) -> None:
    """[HAND-6] So does a gateway that was started again: it knows no more than this one."""
    brain = await stage.begin()
    before = await host(stage, brain)
    async with worker(stage) as other:
        result = await other.call(brain, "two", "bash", {"command": "hostname"})
        assert result == Result(before, exit_code=0)
        await stage.end(brain, idle=200)
        await other.sweep()
    assert [one.running for one in await stage.containers()] == [False]


async def test_two_workers_that_wake_it_at_once_wake_one(stage: Stage) -> None:
    brain = await stage.begin()
    names: set[str] = set()

    async def one(hands: object, id: str) -> None:
        names.add((await hands.call(brain, id, "bash", {"command": "hostname"})).output)  # type: ignore[attr-defined]

    async with worker(stage) as second, worker(stage) as third, anyio.create_task_group() as group:
        for number, worked in enumerate((stage.hands, second, third)):
            group.start_soon(one, worked, f"call-{number}")
    assert len(names) == len(await stage.containers()) == 1


async def test_a_container_that_was_stopped_or_removed_is_there_again_for_the_next_call(stage: Stage) -> None:
    """[HAND-6] As an engine that restarts leaves it."""
    brain = await stage.begin()
    before = await host(stage, brain)
    (found,) = await stage.containers()
    await stage.engine.call(lambda client: client.api.kill(found.id))
    await stage.engine.call(lambda client: client.api.wait(found.id))
    assert await host(stage, brain) == before
    await stage.engine.remove(found.id)
    assert await host(stage, brain) != before


async def test_a_container_that_is_stopped_under_a_command_is_told_of(stage: Stage) -> None:
    brain = await stage.begin()
    results: list[Result] = []

    async def one() -> None:
        results.append(await stage.call(brain, "bash", "one", command="echo so far; touch up; sleep 300"))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(brain.place.work / "up")
        (found,) = await stage.containers()
        await hands.stop(stage.engine, found.id)
    assert results[0].is_error
    assert results[0].exit_code is None
    assert results[0].output.startswith("so far\n[its container was stopped")
    assert (await stage.call(brain, "bash", command="echo up")).output == "up\n"


async def test_a_container_of_another_make_up_is_made_anew_once_it_rests(stage: Stage) -> None:
    brain = await stage.begin()
    await host(stage, brain)
    stage.settings.container_pids = 77
    limit = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null"
    async with worker(stage) as other:
        assert "77" not in (await other.call(brain, "a", "bash", {"command": limit})).output
        (found,) = await stage.containers()
        await hands.stop(stage.engine, found.id)
        await other.call(brain, "b", "bash", {"command": "true"})
    (made,) = await stage.containers()
    assert made.id != found.id


async def test_an_agent_has_its_volumes_and_its_limits_there(stage: Stage) -> None:
    spec = replace(SPEC, limits={"disk_mb": 1}, volumes=({"name": "cache", "target": "/mnt/cache"},))
    for number in (1, 2):
        brain = replace(await stage.begin(), spec=spec)
        script = "echo x >> /mnt/cache/f; wc -l < /mnt/cache/f; head -c 2000000 /dev/zero > big; stat -c %s big"
        assert (await stage.call(brain, "bash", command=script)).output.splitlines()[0] == str(number)
        assert (brain.place.work / "big").stat().st_size == 2**20


async def test_what_a_command_keeps_at_home_counts_as_its_sessions_disk(stage: Stage) -> None:
    """[GND-2] But no volume of the image's is there to keep anything in."""
    tag, base = f"switchboard-test-{uuid.uuid4().hex}", stage.settings.agent_image
    await stage.engine.call(lambda client: built(client, tag, {"Dockerfile": f"FROM {base}\nVOLUME /data".encode()}))
    stage.settings.hands_image = tag
    brain = await stage.begin()
    try:
        script = "for n in 1 2 3; do head -c 1000000 /dev/zero > ~/$n; done; touch /data/x && stat -f -c %T /data"
        assert (await stage.call(brain, "bash", command=script)).output == "tmpfs\n"
    finally:
        await stage.end(brain, status="archived")
        await stage.hands.sweep()
        await stage.engine.call(lambda client: client.images.remove(tag, force=True))
    with anyio.fail_after(10):
        assert "more than 2 MB" in await disk.outgrown(brain.place, 2)
    with anyio.move_on_after(0.1) as still:
        await disk.outgrown(brain.place, 4)
    assert still.cancelled_caught


async def test_containers_of_another_installation_are_left_alone(stage: Stage, tmp_path: Path) -> None:
    brain = await stage.begin()
    await host(stage, brain)
    async with staged(tmp_path / "other", stage.settings.agent_image) as other:
        await other.hands.sweep()
    (found,) = await stage.containers()
    inspected = await stage.engine.call(lambda client: client.api.inspect_container(found.id))
    assert inspected["Config"]["Labels"][HANDS] == str(stage.settings.sessions_dir.resolve())
    assert inspected["HostConfig"]["NetworkMode"] == "none"
