"""Two workers, each with a container engine of its own, of which one is killed: the other goes on. [BOX-8]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapters.launch.strays import end_strays
from gateway.turns import engines as engines_of_turns
from tests.crash.test_kill_engine import HANGS, SECONDS, SETTINGS, awaited, containers_of, gapless
from tests.engines import OwnEngine, own_engine
from tests.gateway.turns.calls import Call, calling, make_agent, of_type, speaks, state_of
from tests.support import Client, serving, text_of


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_of_turns, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(engines_of_turns, "RESTART_SECONDS", 0.2)


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[OwnEngine, OwnEngine]]:
    with pytest.MonkeyPatch.context() as patch, own_engine(patch) as first, own_engine(patch) as second:
        yield first, second


@asynccontextmanager
async def working(folder: Path, engine: OwnEngine, **settings: Any) -> AsyncIterator[Client]:
    """A gateway whose worker has that engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.host)
        gateway = serving(folder, HANGS, **{**SETTINGS, **settings})
        async with gateway as client:
            patch.undo()
            yield client


def ended(call: Call) -> bool:
    return bool(call.states) and call.states[-1] in ("COMPLETED", "FAILED", "CANCELED")


async def knows_of(gateway: Client, *, others: bool) -> None:
    """Until a gateway's worker has seen that the engine of another one answers, or that none does."""
    while gateway.engine.worker.starter.engines.others is not others:  # noqa: ASYNC110  (nobody tells)
        await anyio.sleep(0.05)


async def silent(gateway: Client) -> None:
    """Until it has seen that its own does not."""
    while gateway.engine.worker.starter.engines.answers:  # noqa: ASYNC110  (nobody tells)
        await anyio.sleep(0.05)


@pytest.mark.usefixtures("database_url")
async def test_a_turn_whose_engine_is_killed_goes_on_at_another_worker(
    engines: tuple[OwnEngine, OwnEngine], tmp_path: Path
) -> None:
    first, second = engines
    async with working(tmp_path, first) as here:
        await make_agent(here, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            async with calling(here, "go", agent="boxed") as call:
                await call.until(speaks)
                async with working(tmp_path, second) as there:
                    await knows_of(here, others=True)
                    (container,) = containers_of(first, tmp_path)
                    first.kill()
                    await call.until(ended)
                    assert end_strays(container) == 0, "what the engine left must not work beside the next attempt"
                    task = await there.get("boxed", call.task["id"])
            events = await here.events(task["contextId"])
            assert await gapless(here, task["contextId"])
            await anyio.to_thread.run_sync(first.start)
            await here.engine.worker.starter.sweep()
    assert (state_of(task), text_of(task)) == ("COMPLETED", "second")
    assert "engine" not in str(call.frames), "callers do not learn of it"
    assert [start["body"]["attempt"] for start in of_type(events, "turn_started")] == [1, 2]
    assert [event["body"]["kind"] for event in of_type(events, "notice")].count("engine_moved") == 1
    assert containers_of(first, tmp_path) == containers_of(second, tmp_path) == []


async def test_a_worker_whose_engine_is_silent_leaves_turns_to_another(
    engines: tuple[OwnEngine, OwnEngine], tmp_path: Path
) -> None:
    """And begins those that need none."""
    first, second = engines
    first.kill()
    async with working(tmp_path, first) as here:
        await make_agent(here, "boxed", "rehearsal", placement="docker")
        async with working(tmp_path, second) as there:
            with anyio.fail_after(SECONDS):
                await silent(here)
                await knows_of(here, others=True)
                async with calling(here, "go", agent="boxed") as call:
                    await call.until(speaks)
                    assert here.engine.worker.active == 0
                    assert there.engine.worker.active == 1
                    await here.rpc("boxed", "CancelTask", {"id": call.task["id"]})
                events = await here.events(call.task["contextId"])
        await anyio.to_thread.run_sync(first.start)
    assert [start["body"]["attempt"] for start in of_type(events, "turn_started")] == [1]
    assert "engine_awaited" not in str(events)
    assert containers_of(second, tmp_path) == []


async def test_a_turn_that_waits_begins_where_an_engine_answers_first(
    engines: tuple[OwnEngine, OwnEngine], tmp_path: Path
) -> None:
    """Whichever worker has it in hand."""
    first, second = engines
    first.kill()
    second.kill()
    async with working(tmp_path, first) as here, working(tmp_path, second):
        await make_agent(here, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            async with calling(here, "go", agent="boxed") as call:
                await awaited(here, call.task)
                await anyio.to_thread.run_sync(second.start)
                await call.until(speaks)
                await here.rpc("boxed", "CancelTask", {"id": call.task["id"]})
            starts = of_type(await here.events(call.task["contextId"]), "turn_started")
        await anyio.to_thread.run_sync(first.start)
    assert len(starts) <= 2
    assert containers_of(second, tmp_path) == []
