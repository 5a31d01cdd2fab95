"""A container engine that is killed in the middle of turns, is away for a while, or has no disk left. [BOX-7]"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from adapters.launch.container import INSTALLATION
from adapters.profile import Launch, Plan
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from tests.engines import IMAGE, OwnEngine, own_engine
from tests.gateway.turns.calls import calling, error_of, make_agent, of_type, speaks, state_of
from tests.support import Client, Json, message, serving, text_of

SECONDS = 110
# At its first attempt it says something and hangs; at the next one it ends.
SCRIPT = """
IFS= read -r line
if [ -e begun ]; then
    echo '{"type": "chunk", "text": "second"}'
    echo '{"type": "done", "yield_reason": "completed"}'
else
    touch begun
    echo '{"type": "chunk", "text": "first"}'
    exec sleep 300
fi
"""
_AGENT = ".switchboard/agent"


def _launch(plan: Plan) -> Launch:
    return Launch(("sh", f"{plan.home}/{_AGENT}"), files={_AGENT: SCRIPT}, keep_stdin=True)


HANGS = {"rehearsal": replace(REHEARSAL, executable="", modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=_launch)})}
SETTINGS = {"agent_image": IMAGE, "container_network": "none", "turn_backoff_seconds": 0.1, "stop_seconds": 0.2}


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with pytest.MonkeyPatch.context() as patch, own_engine(patch) as engine:
        yield engine


def containers_of(engine: OwnEngine, data_dir: Path) -> list[str]:
    client = engine.client()
    try:
        mine = {"label": f"{INSTALLATION}={data_dir.resolve() / 'sessions'}"}
        return [one["Id"] for one in client.api.containers(all=True, filters=mine)]
    finally:
        client.close()


async def gapless(gateway: Client, session_id: str) -> bool:
    shown = [event["seq"] for event in await gateway.events(session_id) if event["sub"] == 0]
    return shown == list(range(1, len(shown) + 1))


async def awaited(gateway: Client, task: Json) -> None:
    """Until the owner is told that the engine does not answer."""
    while "engine_awaited" not in str(await gateway.events(task["contextId"])):  # noqa: ASYNC110
        await anyio.sleep(0.05)


async def test_a_turn_whose_engine_is_killed_goes_on_when_it_is_back(engine: OwnEngine, tmp_path: Path) -> None:
    async with serving(tmp_path, HANGS, **SETTINGS) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            async with calling(gateway, "go", agent="boxed") as call:
                await call.until(speaks)
                engine.kill()
                await anyio.to_thread.run_sync(engine.start)
                await call.until(lambda call: call.states and call.states[-1] in ("COMPLETED", "FAILED"))
            task = await gateway.get("boxed", call.task["id"])
            while containers_of(engine, tmp_path):  # noqa: ASYNC110  (nobody tells)
                await anyio.sleep(0.05)
            assert await gapless(gateway, task["contextId"])
            starts = of_type(await gateway.events(task["contextId"]), "turn_started")
    assert (state_of(task), text_of(task)) == ("COMPLETED", "second")
    assert [start["body"]["attempt"] for start in starts] == [1, 2]


async def test_a_turn_waits_for_an_engine_that_is_away(engine: OwnEngine, tmp_path: Path) -> None:
    engine.kill()
    async with serving(tmp_path, HANGS, **SETTINGS) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            async with calling(gateway, "go", agent="boxed") as call:
                await awaited(gateway, call.task)
                await anyio.to_thread.run_sync(engine.start)
                await call.until(speaks)
                stopped = await gateway.rpc("boxed", "CancelTask", {"id": call.task["id"]})
            while containers_of(engine, tmp_path):  # noqa: ASYNC110  (nobody tells)
                await anyio.sleep(0.05)
    assert stopped["result"]["status"]["state"] == "TASK_STATE_CANCELED"


async def test_an_engine_without_disk_is_told_to_the_owner(engine: OwnEngine, tmp_path: Path) -> None:
    async with serving(tmp_path, HANGS, **SETTINGS) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS), engine.full():
            task = await gateway.send("boxed", "go")
            (detail,) = of_type(await gateway.events(task["contextId"]), "error_detail")
        assert containers_of(engine, tmp_path) == []
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "startup_crash")
    assert "no disk left" in str(detail["body"])


async def test_a_turn_that_waits_for_an_engine_can_be_canceled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    async with serving(tmp_path, HANGS, **SETTINGS) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            params = {"message": message("go"), "configuration": {"returnImmediately": True}}
            task = (await gateway.rpc("boxed", "SendMessage", params))["result"]["task"]
            await awaited(gateway, task)
            stopped = await gateway.rpc("boxed", "CancelTask", {"id": task["id"]})
    assert stopped["result"]["status"]["state"] == "TASK_STATE_CANCELED"
