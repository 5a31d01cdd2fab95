"""Images on the real engine: what they find in their container, and turns from their start to their end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION, TURN
from adapters.launch.hands import HANDS
from gateway.db.engine import Database
from registry.images import Image, push
from tests import needs
from tests.gateway.deliver.receivers import receiving
from tests.gateway.runtime_api import brains
from tests.support import Client, GatewayProcess, database_url, message, serving, text_of

Json = dict[str, Any]

SECONDS = 120


@pytest.fixture(scope="module")
def client() -> Iterator[DockerClient]:
    needs.an_engine("gateway")
    client = DockerClient.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def brain(client: DockerClient) -> str:
    return brains.made(client, needs.an_engine("base"))


def containers_of(client: DockerClient, data_dir: Path) -> list[str]:
    mine = {"label": f"{INSTALLATION}={data_dir.resolve() / 'sessions'}"}
    return [one["Labels"][TURN] for one in client.api.containers(all=True, filters=mine)]


@pytest.fixture
def hands(tmp_path: Path, client: DockerClient) -> Iterator[None]:
    """Has the sandboxes of the test removed, which outlive the gateway."""
    yield
    mine = {"label": f"{HANDS}={tmp_path.resolve() / 'sessions'}"}
    for one in client.api.containers(all=True, filters=mine):
        client.api.remove_container(one["Id"], force=True)


@asynccontextmanager
async def thinking(data_dir: Path, digest: str, **settings: Any) -> AsyncIterator[Client]:
    with anyio.fail_after(SECONDS):
        async with serving(data_dir, stop_seconds=1, **settings) as client:
            image = Image("brain:1", digest, ("openai",), ("steer",))
            await client.database.write(lambda conn: push(conn, "mine", image, 1))
            await client.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            yield client


async def test_an_image_answers_and_leaves_nothing(tmp_path: Path, client: DockerClient, brain: str, database_url: str) -> None:
    """[RUN-5]"""
    async with thinking(tmp_path, brain) as gateway:
        task = await gateway.send("thinker", "LOOK")
        events = await gateway.events(task["contextId"])
    assert text_of({"artifacts": task["artifacts"][:1]}) == "attempt 1 "
    assert containers_of(client, tmp_path) == []
    [facts] = [part["data"] for artifact in task["artifacts"] for part in artifact["parts"] if "data" in part]
    assert facts["uid"] != 0
    assert (facts["root"], facts["network"]) == ("refused", "refused")
    assert facts["interfaces"] == ["lo"]
    proxies = ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"]
    contract = """
        ATTEMPT CONTRACT_VERSION DEADLINE_MS HOME JOURNAL_DIR MODEL OPENAI_BASE_URL READ_CURSOR RUNTIME_API_URL SESSION_ID
        TASK_ID TURN_ID TURN_TOKEN
    """
    assert set(contract.split()) | set(proxies) <= set(facts["names"])
    printed = [event["body"] for event in events if event["type"] == "notice" and event["body"]["kind"] == "stdout"]
    assert printed == [{"kind": "stdout", "text": "begun 1"}]
    assert str(tmp_path) not in json.dumps([event for event in events if event["level"] != "internal"])


async def test_the_image_reaches_its_model_without_the_key(tmp_path: Path, brain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """[RUN-6]"""
    heard: list[bytes] = []

    async def model(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            heard.append(await stream.receive())
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nmodels")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, model)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with thinking(tmp_path, brain, egress_private_hosts="127.0.0.1") as gateway:
            env = {"OPENAI_API_KEY": "sk-real", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
            await gateway.owner("agent.update", name="thinker", changes={"env": env})
            task = await gateway.send("thinker", "MODEL LOOK")
        group.cancel_scope.cancel()
    assert "models" in text_of(task)
    assert b"GET /v1/models" in heard[0]
    assert b"Bearer sk-real" in heard[0]
    assert "sk-real" not in json.dumps(task)


@pytest.mark.usefixtures("hands")
async def test_an_image_acts_in_its_sandbox(tmp_path: Path, brain: str) -> None:
    async with thinking(tmp_path, brain, agent_image=needs.an_engine()) as gateway:
        task = await gateway.send("thinker", "ACT")
        events = await gateway.events(task["contextId"])
    told, left = task["artifacts"]
    assert text_of({"artifacts": [told]}) == "attempt 1 acted\n"
    assert (left["name"], left["parts"][0]["text"]) == ("acts.txt", "acted\n")
    [start] = [event["body"] for event in events if event["type"] == "tool_start"]
    [result] = [event["body"] for event in events if event["type"] == "tool_result"]
    assert start["tool"] == "shell"
    assert (result["output"], result["exit_code"], result["is_error"]) == ("acted", 0, False)


@pytest.mark.usefixtures("hands")
async def test_its_sandbox_reaches_what_the_agents_policy_names(tmp_path: Path, brain: str) -> None:
    """[HAND-8]"""
    image = needs.an_engine()
    with receiving() as receiver:
        here = receiver.url.replace("127.0.0.1", "localhost")
        settings = {"agent_image": image, "sidecar_image": image, "egress_private_hosts": "127.0.0.1, ::1"}
        async with thinking(tmp_path, brain, **settings) as gateway:
            await gateway.owner("agent.update", name="thinker", changes={"egress": [here.removeprefix("http://")]})
            task = await gateway.send("thinker", f"{here}/ok http://denied.example/")
            events = await gateway.events(task["contextId"])
    assert text_of(task) == "attempt 1 204\nurllib.error.HTTPError: HTTP Error 403: \n"
    denied = [event for event in events if event["body"].get("kind") == "egress_denied"]
    assert [(event["level"], event["body"]["text"].split(". ")[0]) for event in denied] == [
        ("internal", "The agent was kept from denied.example:80")
    ]


@pytest.mark.usefixtures("hands")
async def test_a_crash_begins_again_in_the_same_journal(tmp_path: Path, client: DockerClient, brain: str) -> None:
    """[RUN-4]"""
    async with thinking(tmp_path, brain, agent_image=needs.an_engine(), turn_backoff_seconds=0.1) as gateway:
        task = await gateway.send("thinker", "EFFECT ACT CRASH")
        events = await gateway.events(task["contextId"])
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert text_of({"artifacts": task["artifacts"][:1]}) == "attempt 1 effect acted\n"
    assert [event["type"] for event in events].count("tool_start") == 1
    assert containers_of(client, tmp_path) == []


@pytest.mark.usefixtures("hands")
async def test_what_an_image_began_in_its_sandbox_goes_on_when_it_dies(tmp_path: Path, brain: str) -> None:
    """[RUN-4]"""
    async with thinking(tmp_path, brain, agent_image=needs.an_engine(), turn_backoff_seconds=0.1) as gateway:
        task = await gateway.send("thinker", "SLOW")
    assert text_of(task) == "attempt 1 slow\n"


@pytest.mark.usefixtures("hands")
async def test_a_killed_gateway_goes_on_with_the_image(tmp_path: Path, client: DockerClient, brain: str) -> None:
    """What was appended stays, what was done is not done again, and nothing is left. [RUN-4]"""
    env = {"SWITCHBOARD_AGENT_IMAGE": needs.an_engine(), "SWITCHBOARD_TURN_BACKOFF_SECONDS": "0.1"}
    gateway = GatewayProcess(tmp_path, env)
    gateway.start()
    try:
        with anyio.fail_after(SECONDS):
            database = Database(database_url(tmp_path))
            await database.start()
            await database.write(lambda conn: push(conn, "mine", Image("brain:1", brain), 1))
            await database.aclose()
            first = gateway.client()
            await first.owner("agent.create", name="thinker", runtime="mine", description="It thinks.", egress=["a.example"])
            sent = await first.send("thinker", "EFFECT ACT STUCK", configuration={"returnImmediately": True})
            while "acted" not in text_of(await first.get("thinker", sent["id"])):  # noqa: ASYNC110
                await anyio.sleep(0.05)
            await first.http.aclose()
            assert len(containers_of(client, tmp_path)) == 3  # the image, what is beside it, what is beside its sandbox
            gateway.kill()
            gateway.start()
            second = gateway.client()
            task = sent
            while task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"):
                await anyio.sleep(0.1)
                task = await second.get("thinker", sent["id"])
            events = await second.events(task["contextId"])
            await second.http.aclose()
    finally:
        gateway.stop()
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert "".join(event["body"]["text"] for event in events if event["type"] == "chunk") == "attempt 1 effect acted\n"
    assert [event["body"]["attempt"] for event in events if event["type"] == "turn_started"] == [1, 2]
    assert [event["type"] for event in events].count("tool_start") == 1
    assert containers_of(client, tmp_path) == []


@pytest.mark.parametrize("word", ["WAIT", "HANG"])
async def test_a_cancel_leaves_no_container(tmp_path: Path, client: DockerClient, brain: str, word: str) -> None:
    async with thinking(tmp_path, brain) as gateway:
        sent = await gateway.send("thinker", word, configuration={"returnImmediately": True})
        while "attempt" not in text_of(await gateway.get("thinker", sent["id"])):  # noqa: ASYNC110
            await anyio.sleep(0.05)
        answer = await gateway.rpc("thinker", "CancelTask", {"id": sent["id"]})
        assert containers_of(client, tmp_path) == []
    assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"


async def test_a_steer_reaches_the_image(tmp_path: Path, brain: str) -> None:
    async with thinking(tmp_path, brain) as gateway:
        sent = await gateway.send("thinker", "WAIT", configuration={"returnImmediately": True})
        while "attempt" not in text_of(await gateway.get("thinker", sent["id"])):  # noqa: ASYNC110
            await anyio.sleep(0.05)
        await gateway.rpc("thinker", "SendMessage", {"message": message("left", taskId=sent["id"])})
        task = await gateway.get("thinker", sent["id"])
    assert text_of(task) == "attempt 1 steered left "


async def test_the_deadline_ends_the_image(tmp_path: Path, client: DockerClient, brain: str) -> None:
    async with thinking(tmp_path, brain, turn_seconds=3) as gateway:
        task = await gateway.send("thinker", "HANG")
        events = await gateway.events(task["contextId"])
    assert events[-1]["body"]["yield_reason"] == "deadline_exceeded"
    assert containers_of(client, tmp_path) == []


async def test_an_image_that_is_not_there_is_told_of(tmp_path: Path, client: DockerClient) -> None:
    async with thinking(tmp_path, "sha256:" + "0" * 64) as gateway:
        task = await gateway.send("thinker", "Hello")
        events = await gateway.events(task["contextId"])
    assert events[-1]["body"]["error"]["category"] == "runtime_missing"
    assert containers_of(client, tmp_path) == []
