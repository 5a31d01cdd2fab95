"""A push, a rollback and a deprecation are for new sessions: whatever works, and whatever goes on, keeps its image. [RUN-7]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION, TURN
from adapters.launch.hands import HANDS
from gateway.turns.launching import Place
from tests import needs
from tests.gateway.runtime_api import brains
from tests.gateway.turns.calls import of_type, state_of
from tests.support import Client, Json, serving

SECONDS = 100
OLD, NEW = "OLD_BRAIN", "NEW_BRAIN"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[DockerClient]:
    """At the end the sandboxes are removed, which outlive the gateway."""
    needs.an_engine("gateway")
    with closing(DockerClient.from_env()) as client:
        yield client
        mine = {"label": f"{HANDS}={tmp_path.resolve() / 'sessions'}"}
        for one in client.api.containers(all=True, filters=mine):
            client.api.remove_container(one["Id"], force=True)


@pytest.fixture
def images(client: DockerClient) -> dict[str, str]:
    base = needs.an_engine("base")
    return {mark: brains.made(client, base, f"switchboard-test-{mark.lower()}", env=mark) for mark in (OLD, NEW)}


@asynccontextmanager
async def thinking(data_dir: Path, image: str) -> AsyncIterator[Client]:
    with anyio.fail_after(SECONDS):
        async with serving(data_dir, stop_seconds=1, agent_image=needs.an_engine()) as gateway:
            await pushed(gateway, image)
            await gateway.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            yield gateway


async def pushed(gateway: Client, image: str) -> Json:
    found: Json = await gateway.owner("runtimes.push", name="mine", image=image, unchecked=True)
    return found


def which(task: Json) -> str:
    """The image that did it, by its environment."""
    [facts] = [part["data"] for artifact in task["artifacts"] for part in artifact["parts"] if "data" in part]
    [mark] = [name for name in facts["names"] if name in (OLD, NEW)]
    return str(mark)


async def ended(gateway: Client, task: Json) -> Json:
    while state_of(task) in ("SUBMITTED", "WORKING"):
        await anyio.sleep(0.05)
        task = await gateway.get("thinker", task["id"])
    return task


def bodies(client: DockerClient, data_dir: Path) -> set[tuple[str, str, str]]:
    """(container, the image it was made of, turn) of all that an installation has at work, without what stands beside."""
    mine = {"label": f"{INSTALLATION}={data_dir.resolve() / 'sessions'}"}
    found = [client.api.inspect_container(one["Id"]) for one in client.api.containers(filters=mine)]
    return {
        (one["Id"], one["Image"], one["Config"]["Labels"][TURN]) for one in found if "brain" in str(one["Config"]["Entrypoint"])
    }


async def test_a_turn_in_the_middle_of_a_tool_ends_on_the_image_it_began_with(
    tmp_path: Path, client: DockerClient, images: dict[str, str]
) -> None:
    async def held(gateway: Client, change: Any) -> tuple[Json, Json]:
        """A session's turn, during a tool of which something changes; its next turn."""
        sent = await gateway.send("thinker", "HOLD LOOK", configuration={"returnImmediately": True})
        while not of_type(await gateway.events(sent["contextId"]), "tool_start"):  # noqa: ASYNC110
            await anyio.sleep(0.05)
        before = bodies(client, tmp_path)
        await change
        assert bodies(client, tmp_path) == before
        assert len(before) == 1
        (Place.of(tmp_path / "sessions", sent["contextId"]).work / "go").touch()
        task = await ended(gateway, sent)
        return task, await gateway.send("thinker", "LOOK", contextId=sent["contextId"])

    async with thinking(tmp_path, images[OLD]) as gateway:
        during_push = await held(gateway, pushed(gateway, images[NEW]))
        after_push = await gateway.send("thinker", "LOOK")
        during_rollback = await held(gateway, gateway.owner("runtimes.rollback", name="mine"))
        after_rollback = await gateway.send("thinker", "LOOK")
        await gateway.owner("runtimes.deprecate", name="mine", version=2)
        of_the_deprecated = await gateway.send("thinker", "LOOK", contextId=after_push["contextId"])
        started = of_type(await gateway.events(during_push[0]["contextId"]), "turn_started")
    assert [which(task) for task in (*during_push, after_push)] == [OLD, OLD, NEW]
    assert [which(task) for task in (*during_rollback, after_rollback)] == [NEW, NEW, OLD]
    assert which(of_the_deprecated) == NEW
    assert [one["body"]["attempt"] for one in started] == [1, 1]
