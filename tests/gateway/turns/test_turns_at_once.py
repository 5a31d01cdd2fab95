"""Thirty-two turns at one moment, each in a container of its own on the real engine. [BOX-9]"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION, TURN
from adapters.profile import Launch, Plan
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from gateway.turns.launching import Place
from tests import needs
from tests.engines import load
from tests.gateway.turns.calls import Call, calling, make_agent, speaks
from tests.support import serving, text_of

SECONDS = 110
MANY = 32
IMAGE = "switchboard-test-shell"
# Says something, and ends when it may.
SCRIPT = """
IFS= read -r line
echo '{"type": "chunk", "text": "begun, "}'
until [ -e go ]; do sleep 0.1; done
echo '{"type": "chunk", "text": "ended"}'
echo '{"type": "done", "yield_reason": "completed"}'
"""
_AGENT = ".switchboard/agent"


def _launch(plan: Plan) -> Launch:
    return Launch(("sh", f"{plan.home}/{_AGENT}"), files={_AGENT: SCRIPT}, keep_stdin=True)


WAITS = {"rehearsal": replace(REHEARSAL, executable="", modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=_launch)})}


@pytest.fixture(scope="module")
def client() -> Iterator[DockerClient]:
    needs.an_engine("base")
    with closing(DockerClient.from_env()) as client:
        load(client, name=IMAGE)
        yield client


def turns_of(client: DockerClient, data_dir: Path, *, ended: bool = False) -> list[str]:
    """Of the containers of an installation that run; or of all there are."""
    mine = {"label": f"{INSTALLATION}={data_dir.resolve() / 'sessions'}"}
    return [one["Labels"][TURN] for one in client.api.containers(all=ended, filters=mine)]


async def test_thirty_two_containers_work_at_one_moment_and_none_is_left(tmp_path: Path, client: DockerClient) -> None:
    settings = {"agent_image": IMAGE, "container_network": "none", "concurrency": MANY, "container_memory_mb": 64}
    spoke: list[Call] = []
    ended: list[Call] = []
    all_spoke = anyio.Event()

    async with serving(tmp_path, WAITS, **settings) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")

        async def play(number: int) -> None:
            async with calling(gateway, f"number {number}", agent="boxed") as call:
                await call.until(speaks)
                spoke.append(call)
                if len(spoke) == MANY:
                    all_spoke.set()
                await call.until(lambda call: call.states and call.states[-1] in ("COMPLETED", "FAILED"))
                ended.append(call)

        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as group:
                for number in range(MANY):
                    group.start_soon(play, number)
                await all_spoke.wait()
                at_once = turns_of(client, tmp_path)
                for call in spoke:
                    (Place.of(tmp_path / "sessions", call.task["contextId"]).work / "go").touch()
            tasks = [await gateway.get("boxed", call.task["id"]) for call in ended]
            while gateway.engine.worker.active:  # noqa: ASYNC110  (a turn is at work until its container is gone)
                await anyio.sleep(0.05)
            await gateway.engine.worker.starter.sweep()
        assert turns_of(client, tmp_path, ended=True) == []
    assert (len(at_once), len(set(at_once))) == (MANY, MANY)
    assert [text_of(task) for task in tasks] == ["begun, ended"] * MANY
    assert [call.states[-1] for call in ended] == ["COMPLETED"] * MANY
