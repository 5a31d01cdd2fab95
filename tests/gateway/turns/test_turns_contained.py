"""Turns of an agent in a container: how they end, what callers and owners are told of it, and that nothing is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker.client import DockerClient

from adapters.events import NEUTRAL
from adapters.launch.container import INSTALLATION, TURN
from adapters.profile import Launch, Plan, Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL
from adapters.runtimes.rehearsal.profile import SCRIPT
from tests import needs
from tests.gateway.turns.calls import calling, cancel, error_of, make_agent, of_type, speaks, state_of
from tests.support import Client, GatewayProcess, Json, gateway_process, message, serving, text_of

SECONDS = 60
_AGENT = ".switchboard/agent.py"


def runs(script: str) -> dict[str, Profile]:
    """The rehearsal, its script brought along to where there is no gateway."""

    def launch(plan: Plan) -> Launch:
        return Launch(("python3", "-I", f"{plan.home}/{_AGENT}"), files={_AGENT: script}, keep_stdin=True)

    jsonl = replace(REHEARSAL.modes["jsonl"], launch=launch)
    return {"rehearsal": replace(REHEARSAL, executable="", modes={"jsonl": jsonl})}


PLAYS = runs(Path(SCRIPT).read_text("utf-8"))


@pytest.fixture(scope="module")
def image() -> str:
    return needs.an_engine()


@pytest.fixture
def client(image: str) -> Iterator[DockerClient]:
    client = DockerClient.from_env()
    yield client
    client.close()


def containers_of(client: DockerClient, data_dir: Path) -> list[str]:
    """The turns of all that is there of an installation."""
    mine = {"label": f"{INSTALLATION}={data_dir.resolve() / 'sessions'}"}
    return [one["Labels"][TURN] for one in client.api.containers(all=True, filters=mine)]


async def ask(gateway: Client, prompt: str) -> Json:
    with anyio.fail_after(SECONDS):
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        return await gateway.send("boxed", prompt)


async def told(gateway: Client, task: Json) -> str:
    """What the owner reads of a failure."""
    (detail,) = of_type(await gateway.events(task["contextId"]), "error_detail")
    return json.dumps(detail["body"])


async def test_a_turn_runs_in_a_container_and_leaves_none(tmp_path: Path, client: DockerClient, image: str) -> None:
    async with serving(tmp_path, PLAYS, agent_image=image, container_network="none") as gateway:
        task = await ask(gateway, "N=3 TOOL")
    assert containers_of(client, tmp_path) == []
    assert state_of(task) == "COMPLETED"
    assert text_of(task).startswith("word0 word1 word2")


async def test_a_sweep_leaves_what_runs_alone(tmp_path: Path, client: DockerClient, image: str) -> None:
    async with serving(tmp_path, PLAYS, agent_image=image, container_network="none", stop_seconds=0.1) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker")
        with anyio.fail_after(SECONDS):
            async with calling(gateway, "N=2 HANG", agent="boxed") as call:
                await call.until(speaks)
                await gateway.engine.worker.starter.sweep()
                assert len(containers_of(client, tmp_path)) == 1
                await cancel(gateway, call.task["id"], "boxed")
                assert containers_of(client, tmp_path) == []
    assert call.states[-1] == "CANCELED"


async def test_a_turn_without_memory_left_says_so(tmp_path: Path, image: str) -> None:
    """[BOX-4]"""
    hungry = runs("bytearray(10 ** 9)")
    async with serving(tmp_path, hungry, agent_image=image, container_network="none", container_memory_mb=64) as gateway:
        task = await ask(gateway, "eat")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "out_of_memory")
    assert error_of(task)["message"] == NEUTRAL["out_of_memory"]
    assert "SWITCHBOARD_CONTAINER_MEMORY_MB" in owner


async def test_a_missing_image_is_told_to_the_owner(tmp_path: Path, image: str) -> None:
    async with serving(tmp_path, PLAYS, agent_image="switchboard-none:1") as gateway:
        task = await ask(gateway, "N=1")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "runtime_missing")
    assert "switchboard-none:1" in owner
    assert "make images" in owner


async def test_a_missing_image_of_what_leads_to_the_gateway_is_told_to_the_owner(
    tmp_path: Path, client: DockerClient, image: str
) -> None:
    async with serving(tmp_path, PLAYS, agent_image=image, sidecar_image="switchboard-none:1") as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker", egress="none")
        with anyio.fail_after(SECONDS):
            task = await gateway.send("boxed", "N=1")
        owner = await told(gateway, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "runtime_missing")
    assert "SWITCHBOARD_SIDECAR_IMAGE" in owner
    assert containers_of(client, tmp_path) == []


async def test_nothing_is_left_of_a_turn_with_a_container_beside_its_own(
    tmp_path: Path, client: DockerClient, image: str
) -> None:
    settings = {"agent_image": image, "sidecar_image": image, "stop_seconds": 0.1}
    async with serving(tmp_path, PLAYS, **settings) as gateway:
        await make_agent(gateway, "boxed", "rehearsal", placement="docker", egress="none")
        with anyio.fail_after(SECONDS):
            async with calling(gateway, "N=2 HANG", agent="boxed") as call:
                await call.until(speaks)
                await gateway.engine.worker.starter.sweep()
                assert len(containers_of(client, tmp_path)) == 2
                await cancel(gateway, call.task["id"], "boxed")
                assert containers_of(client, tmp_path) == []
    assert call.states[-1] == "CANCELED"


async def test_an_engine_that_is_gone_is_told_to_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    async with serving(tmp_path, PLAYS, engine_seconds=0.7) as gateway:
        task = await ask(gateway, "N=1")
        owner = await told(gateway, task)
        events = await gateway.events(task["contextId"])
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "startup_crash")
    assert [event["body"]["kind"] for event in events if event["body"].get("kind") == "engine_awaited"] == ["engine_awaited"]
    assert "tcp://127.0.0.1:9 does not answer" in owner
    assert "send the message again" in owner


async def test_a_runtime_that_no_image_has_is_told_to_the_owner(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        task = await ask(gateway, "N=1")
        owner = await told(gateway, task)
    assert error_of(task)["category"] == "runtime_missing"
    assert "--placement sandboxed" in owner


async def test_a_killed_gateway_leaves_no_container_once_it_is_back(tmp_path: Path, client: DockerClient, image: str) -> None:
    """[BOX-5]"""
    settings = {"SWITCHBOARD_AGENT_IMAGE": image, "SWITCHBOARD_CONTAINER_NETWORK": "none", "SWITCHBOARD_TURN_ATTEMPTS": "1"}
    with gateway_process(tmp_path, settings) as gateway, anyio.fail_after(SECONDS):
        task = await _begun(gateway, client, tmp_path)
        gateway.kill()
        gateway.start()
        assert containers_of(client, tmp_path) == []
        caller = gateway.client()
        over = await caller.rpc("deaf", "GetTask", {"id": task["id"]})
        await caller.http.aclose()
    assert over["result"]["status"]["state"] == "TASK_STATE_FAILED"


async def _begun(gateway: GatewayProcess, client: DockerClient, data_dir: Path) -> Json:
    """A turn that has begun in a container, and will not end."""
    caller = gateway.client()
    await make_agent(caller, "deaf", "acp", placement="docker", command=["sh", "-c", "trap '' TERM; sleep 300; cat"])
    now: Any = {"message": message("hear"), "configuration": {"returnImmediately": True}}
    task: Json = (await caller.rpc("deaf", "SendMessage", now))["result"]["task"]
    while not containers_of(client, data_dir):  # noqa: ASYNC110  (nobody tells)
        await anyio.sleep(0.05)
    await caller.http.aclose()
    return task
