"""An image's turn in the middle of a command in its sandbox, whose engine is killed: it goes on at another worker's. [BOX-8]"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from registry.images import Image, push
from tests.crash.test_kill_engine import SECONDS, containers_of, gapless
from tests.crash.test_move_engine import knows_of, soon, working
from tests.engines import IMAGE, PYTHON, OwnEngine, own_engine
from tests.gateway.runtime_api import brains
from tests.gateway.turns.calls import AT_ONCE, of_type

__all__ = ["soon"]

Pair = tuple[OwnEngine, OwnEngine]


@pytest.fixture(scope="module")
def engines() -> Iterator[Pair]:
    with own_engine(disk="512m", packages=PYTHON) as first, own_engine(disk="512m", packages=PYTHON) as second:
        yield first, second


@pytest.fixture(scope="module")
def brain(engines: Pair) -> str:
    """The id of an image that both have."""
    with closing(engines[0].client()) as first, closing(engines[1].client()) as second:
        id = brains.made(first, IMAGE)
        second.images.load(b"".join(first.images.get(id).save()))
    return id


async def test_what_an_image_did_in_its_sandbox_is_not_done_again_on_another_engine(
    engines: Pair, brain: str, tmp_path: Path
) -> None:
    """[HAND-10] [RUN-4]"""
    first, second = engines
    settings = {"sidecar_image": IMAGE, "stop_seconds": 1}
    async with working(tmp_path, first, **settings) as here:
        with anyio.fail_after(SECONDS):
            await here.database.write(lambda conn: push(conn, "mine", Image("brain:1", brain), 1))
            await here.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            task = await here.send("thinker", "EFFECT LONG", configuration=AT_ONCE)
            ran = tmp_path / "sessions" / task["contextId"] / "work/ran.txt"
            while not ran.exists():  # noqa: ASYNC110  (nobody tells)
                await anyio.sleep(0.05)
            async with working(tmp_path, second, **settings) as there:
                await knows_of(here, others=True)
                await anyio.to_thread.run_sync(first.kill)
                while task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"):
                    await anyio.sleep(0.1)
                    task = await there.get("thinker", task["id"])
            events = await here.events(task["contextId"])
            assert await gapless(here, task["contextId"])
            await anyio.to_thread.run_sync(first.start)
            await here.engine.worker.starter.sweep()
    said = "".join(event["body"]["text"] for event in of_type(events, "chunk"))
    assert (task["status"]["state"], said) == ("TASK_STATE_COMPLETED", "attempt 1 effect interrupted True, ran\n0\n")
    assert [start["body"]["attempt"] for start in of_type(events, "turn_started")] == [1, 2]
    assert [event["body"]["kind"] for event in of_type(events, "notice")].count("engine_moved") == 1
    assert len(of_type(events, "tool_start")) == 2
    assert ran.read_text() == "ran\n"
    assert containers_of(first, tmp_path) == containers_of(second, tmp_path) == []
