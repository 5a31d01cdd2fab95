"""An image that one engine has pushed to a registry runs on another that never saw it, and nothing but that image. [RUN-8]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker.client import DockerClient

from registry.images import Image, push
from tests import needs
from tests.engines import IMAGE, PYTHON, OwnEngine, load, own_engine
from tests.gateway.runtime_api import brains
from tests.gateway.turns.calls import error_of, of_type, state_of
from tests.registries import Registry, registry
from tests.support import Client, Json, WorkerProcess, serving

SECONDS = 100
BASE = "switchboard-test-python"


@pytest.fixture(scope="module")
def first() -> Iterator[DockerClient]:
    """The engine images are built on."""
    needs.an_engine("base")
    with closing(DockerClient.from_env()) as client:
        load(client, PYTHON, BASE)
        yield client


@pytest.fixture(scope="module")
def hub(first: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found
        found.forgotten_by(first)


@pytest.fixture(scope="module")
def second(hub: Registry) -> Iterator[OwnEngine]:
    """The engine turns run on; it reaches the registry."""
    with own_engine(disk="512m", packages=PYTHON) as engine:
        hub.serve(beside=engine)
        yield engine


@pytest.fixture
def elsewhere(tmp_path: Path, second: OwnEngine) -> Iterator[WorkerProcess]:
    env = {"DOCKER_HOST": second.host, "SWITCHBOARD_SIDECAR_IMAGE": IMAGE, "SWITCHBOARD_STOP_SECONDS": "1"}
    with ExitStack() as stack:
        worker = WorkerProcess(tmp_path, env)
        stack.callback(worker.end)
        yield worker


@asynccontextmanager
async def published(data_dir: Path, image: str, elsewhere: WorkerProcess) -> AsyncIterator[tuple[Client, str]]:
    """A gateway whose engine has the image, an agent on it, and a worker with another engine. The image's digest, too."""
    with anyio.fail_after(SECONDS):
        async with serving(data_dir, worker=False) as gateway:
            pushed = await gateway.owner("runtimes.push", name="mine", image=image, unchecked=True)
            await gateway.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            await anyio.to_thread.run_sync(elsewhere.start)
            yield gateway, pushed["digest"]


def made(first: DockerClient, hub: Registry, name: str, mark: str) -> str:
    """An image known by a mark in its environment, in the registry."""
    return hub.push(first, brains.made(first, BASE, f"switchboard-test-{mark.lower()}", env=mark), name)


def names_of(task: Json) -> list[str]:
    """The environment the image found."""
    [facts] = [part["data"] for artifact in task["artifacts"] for part in artifact["parts"] if "data" in part]
    names: list[str] = facts["names"]
    return names


def fetched(events: list[Json]) -> list[str]:
    return [event["body"]["text"] for event in of_type(events, "notice") if event["body"]["kind"] == "image_awaited"]


async def told(gateway: Client, task: Json) -> str:
    """What the owner reads of a failure."""
    (detail,) = of_type(await gateway.events(task["contextId"]), "error_detail")
    return str(detail["body"]["text"])


async def test_another_engine_gets_the_image_by_its_digest_once_wherever_its_tag_has_gone(
    tmp_path: Path, first: DockerClient, second: OwnEngine, hub: Registry, elsewhere: WorkerProcess
) -> None:
    image = made(first, hub, "thinker:1", "FIRST_BUILD")
    async with published(tmp_path, image, elsewhere) as (gateway, digest):
        assert digest.startswith(f"{hub.address}/thinker@sha256:")
        made(first, hub, "thinker:1", "SECOND_BUILD")
        task = await gateway.send("thinker", "LOOK")
        again = await gateway.send("thinker", "LOOK", contextId=task["contextId"])
        events = await gateway.events(task["contextId"])
    assert [state_of(one) for one in (task, again)] == ["COMPLETED"] * 2
    assert [("FIRST_BUILD" in names_of(one), "SECOND_BUILD" in names_of(one)) for one in (task, again)] == [(True, False)] * 2
    assert [digest in said for said in fetched(events)] == [True]
    with closing(second.client()) as client:
        attrs = client.images.get(digest).attrs
    assert (attrs["RepoDigests"], attrs["RepoTags"]) == ([digest], [])


@pytest.mark.parametrize("lost", ["the image", "its layers"])
async def test_an_image_that_is_gone_from_the_registry_is_told_to_the_owner(
    tmp_path: Path, first: DockerClient, hub: Registry, elsewhere: WorkerProcess, lost: str
) -> None:
    name = lost.split()[-1]
    base = f"switchboard-test-{name}"
    load(first, "python3-minimal libpython3.*-minimal", base)
    image = hub.push(first, brains.made(first, base, f"{base}-brain", env=name.upper()), f"{name}:1")
    async with published(tmp_path, image, elsewhere) as (gateway, digest):
        if lost == "the image":
            hub.forget(digest)
        else:
            hub.lose_contents()
        task = await gateway.send("thinker", "LOOK")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "runtime_missing")
    assert hub.address not in str(task)
    assert digest in owner
    assert "did not get it from its registry" in owner
    assert "switchboard runtimes push" in owner


async def test_an_image_that_was_only_built_is_asked_of_no_registry(
    tmp_path: Path, first: DockerClient, elsewhere: WorkerProcess
) -> None:
    image = brains.made(first, BASE, "switchboard-test-only-built", env="ONLY_BUILT")
    async with published(tmp_path, image, elsewhere) as (gateway, digest):
        task = await gateway.send("thinker", "LOOK")
        owner = await told(gateway, task)
    assert error_of(task)["category"] == "runtime_missing"
    assert digest == image
    assert "docker push" in owner


async def test_a_turn_that_waits_for_its_image_can_be_canceled(tmp_path: Path, first: DockerClient) -> None:
    """Its registry takes the question and never answers."""
    asked = anyio.Event()

    async def silent(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            asked.set()
            await anyio.sleep_forever()

    with anyio.fail_after(SECONDS):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, silent)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with serving(tmp_path, stop_seconds=1) as gateway:
                image = Image("mine:1", f"127.0.0.1:{port}/mine@sha256:{'1' * 64}")
                await gateway.database.write(lambda conn: push(conn, "mine", image, 1))
                await gateway.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
                sent = await gateway.send("thinker", "Hello", configuration={"returnImmediately": True})
                await asked.wait()
                answer = await gateway.rpc("thinker", "CancelTask", {"id": sent["id"]})
            group.cancel_scope.cancel()
    assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"
