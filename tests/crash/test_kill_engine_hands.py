"""A container engine that is killed while a command runs in a sandbox. [HAND-10]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gateway.hands.tools import Result
from tests.engines import IMAGE, OwnEngine, own_engine
from tests.gateway.hands.stage import SECONDS, Stage, staged, worker
from tests.gateway.hands.test_hands_calls import until

COMMAND = "echo ran >> runs; echo so far; touch up; sleep 300; echo late >> runs"


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with pytest.MonkeyPatch.context() as patch, own_engine(patch) as engine:
        yield engine


@pytest.fixture
async def stage(tmp_path: Path, engine: OwnEngine) -> AsyncIterator[Stage]:
    async with staged(tmp_path, IMAGE) as stage:
        yield stage


async def test_a_command_whose_engine_is_killed_is_not_run_twice(stage: Stage, engine: OwnEngine) -> None:
    """Its answer says what is known, and nothing of it runs when the next one begins."""
    brain = await stage.begin()
    assert (await stage.call(brain, "bash", command="sleep 400 & echo started")).output == "started\n"
    results: list[Result] = []

    async def one() -> None:
        results.append(await stage.call(brain, "bash", "one", command=COMMAND))

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await until(brain.place.work / "up")
            await anyio.to_thread.run_sync(engine.kill)
        refused = await stage.call(brain, "bash", "two", command="echo two >> runs")
        await anyio.to_thread.run_sync(engine.start)
        brain = await stage.supersede(brain)
        again = await stage.call(brain, "bash", "one", command=COMMAND)
        left = await stage.call(brain, "bash", "three", command="cat runs; cat /proc/*/cmdline | tr '\\0' ' '")
    (result,) = results
    assert result == again
    assert (result.is_error, result.interrupted, result.exit_code) == (True, True, None)
    assert "[its container was cut off: it is not known" in result.output
    assert refused == Result("The sandbox cannot be used now.", is_error=True)
    assert left.output.startswith("ran\n")
    assert "sleep 300" not in left.output
    (row,) = [row for row in await stage.rows() if row.call_id == "one"]
    assert row.result is not None


async def test_what_could_not_be_ended_is_ended_when_the_engine_is_back(
    stage: Stage, engine: OwnEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[HAND-12] Where the worker does not see the container's processes, as on another machine; by any worker of the engine."""
    monkeypatch.setattr("adapters.launch.hands.end_strays", lambda *_: 0)
    brain = await stage.begin()
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: stage.call(brain, "bash", "two", command=COMMAND))
            await until(brain.place.work / "up")
            (found,) = await stage.containers()
            await anyio.to_thread.run_sync(engine.kill)
        await anyio.to_thread.run_sync(engine.start)
        async with worker(stage) as other:
            assert await other.look()
    assert "late" not in (brain.place.work / "runs").read_text()
    seen = await stage.call(brain, "bash", command="cat /proc/*/cmdline | tr '\\0' ' '")
    assert "sleep 300" not in seen.output
    assert (await stage.containers())[0].id == found.id
