"""The installation of docker/compose.yaml: called by the official A2A client at either gateway, agents in containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as pb
from anyio import to_thread
from docker.client import DockerClient
from docker.errors import APIError

from adapters.launch.container import INSTALLATION
from tests import needs
from tests.e2e.test_sdk_client import asking, text_of
from tests.gateway.runtime_api import brains
from tests.support import Client, free_port
from tests.support import text_of as text_of_json

COMPOSE = Path(__file__).parents[2] / "docker/compose.yaml"
SECONDS = 150
pytestmark = pytest.mark.timeout(2 * SECONDS)
# An agent of the owner's own, such as stands in no list of runtimes: it says what it was told, and where it runs.
ACP = """
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    method, result = asked.get("method"), {}
    if method == "initialize":
        result = {"protocolVersion": 1, "agentCapabilities": {}}
    elif method == "session/new":
        result = {"sessionId": "s"}
    elif method == "session/prompt":
        text = asked["params"]["prompt"][0]["text"] + f" as {os.getuid()}"
        told = {"sessionId": "s", "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}}
        print(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": told}), flush=True)
        result = {"stopReason": "end_turn"}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Installation:
    data_dir: Path
    urls: tuple[str, str]
    run: Callable[..., str]  # docker compose, with these words

    def owner(self) -> Client:
        return Client(self.urls[0], (self.data_dir / "owner.key").read_text().strip())


def program() -> list[str]:
    plugin = (
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=False) if shutil.which("docker") else None
    )
    if plugin is not None and plugin.returncode == 0:
        return ["docker", "compose"]
    found = shutil.which("docker-compose")
    if found is None:
        needs.missing("The test of docker/compose.yaml needs docker compose; try: apt-get install docker-compose")
    return [found]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    images = {name: needs.an_engine(name) for name in ("agent", "gateway", "postgres")}
    data_dir, ports = tmp_path_factory.mktemp("compose"), (free_port(), free_port(), free_port())
    urls = (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
    named = {f"{name.upper()}_IMAGE": image for name, image in images.items()}
    named |= {
        "DATA": str(data_dir),
        "PORT": str(ports[0]),
        "PORT_2": str(ports[1]),
        "PUBLIC_URL": urls[0],
        "WORKER_PORT": str(ports[2]),
    }
    named |= {"SIDECAR_IMAGE": images["gateway"], "LISTEN": "0.0.0.0"}
    file = COMPOSE
    if not has_networks():
        file, named["LISTEN"] = data_dir / "compose.yaml", "127.0.0.1"
        file.write_text(yaml.safe_dump(on_the_machines_network(yaml.safe_load(COMPOSE.read_text("utf-8")))))
    env = os.environ | {f"SWITCHBOARD_{name}": value for name, value in named.items()}
    words = [*program(), "--project-name", f"test{uuid.uuid4().hex[:12]}", "--file", str(file)]

    def run(*more: str) -> str:
        done = subprocess.run([*words, *more], env=env, capture_output=True, text=True, check=False, timeout=SECONDS)
        assert done.returncode == 0, f"{more}: {done.stderr}\n{done.stdout}"
        return done.stdout

    with brought_up(run):
        yield Installation(data_dir, urls, run)


@contextmanager
def brought_up(run: Callable[..., str]) -> Iterator[None]:
    try:
        run("up", "--detach")
        yield
    except BaseException:
        print(run("logs", "--no-color"))
        raise
    finally:
        run("down", "--volumes", "--timeout", "20")


def has_networks() -> bool:
    """Whether the engine can make one; one without privileges cannot."""
    client = DockerClient.from_env()
    try:
        client.networks.create(f"test{uuid.uuid4().hex[:12]}").remove()
    except APIError:
        return False
    finally:
        client.close()
    return True


def on_the_machines_network(file: dict[str, Any]) -> dict[str, Any]:
    """The same services where the engine has no network to put them on."""
    for service in file["services"].values():
        service.pop("ports", None)
        service.setdefault("network_mode", "host")
    return file


async def until_it_answers(url: str) -> None:
    async with httpx.AsyncClient() as http:
        while True:
            try:
                (await http.get(f"{url}/health", timeout=2)).raise_for_status()
                return
            except httpx.HTTPError:
                await anyio.sleep(0.1)


async def until_the_worker_does(installation: Installation) -> None:
    """Nobody outside reaches it, so the engine is asked for its health."""
    (worker,) = installation.run("ps", "--quiet", "worker").split()
    with closing(DockerClient.from_env()) as client:
        while client.api.inspect_container(worker)["State"]["Health"]["Status"] != "healthy":  # noqa: ASYNC110
            await anyio.sleep(0.1)


async def test_the_official_client_calls_one_gateway_and_finds_its_task_at_the_other(installation: Installation) -> None:
    """[COMP-1]"""
    async with httpx.AsyncClient(timeout=60) as http:
        with anyio.fail_after(SECONDS):
            found = []
            for url in installation.urls:
                await until_it_answers(url)
                card = await A2ACardResolver(http, f"{url}/agents/hello").get_agent_card()
                for interface in card.supported_interfaces:
                    interface.url = interface.url.replace(installation.urls[0], url)
                found.append(ClientFactory(ClientConfig(httpx_client=http, streaming=True)).create(card))
            one, other = found
            events = [event async for event in one.send_message(asking("N=3"))]
            task = await other.get_task(pb.GetTaskRequest(id=events[0].task.id))
    assert events[-1].status_update.status.state == pb.TASK_STATE_COMPLETED
    assert text_of(list(task.artifacts)) == "word0 word1 word2 "


async def test_the_worker_starts_agents_in_containers(installation: Installation) -> None:
    with anyio.fail_after(SECONDS):
        await until_it_answers(installation.urls[0])
        client = installation.owner()
        command = ["python3", "-I", "-c", ACP]
        await client.owner("agent.create", name="boxed", runtime="acp", placement="docker", egress="none", command=command)
        task = await client.send("boxed", "here")
        await client.http.aclose()
        while containers_of(installation.data_dir):  # noqa: ASYNC110  (nobody tells)
            await anyio.sleep(0.1)
    assert text_of_json(task) == "here as 10001"


async def test_a_runtime_is_pushed_where_the_engine_is_and_called_at_any_gateway(installation: Installation) -> None:
    """[COMP-2] The check itself is the kit's, and tried with it."""
    with closing(DockerClient.from_env()) as client:
        brains.made(client, needs.an_engine("base"))
    image = f"{brains.TAG}:latest"
    push = ["switchboard", "runtimes", "push", image, "--name", "brain"]
    with anyio.fail_after(SECONDS):
        await until_it_answers(installation.urls[0])
        await until_the_worker_does(installation)
        pushed = await to_thread.run_sync(lambda: installation.run("exec", "-T", "worker", *push, "--unchecked", "--json"))
        assert json.loads(pushed)["version"] == 1
        client = installation.owner()
        with pytest.raises(AssertionError, match="This gateway runs no turns"):
            await client.owner("runtimes.push", name="brain", image=image)
        await client.owner("agent.create", name="brainy", runtime="brain")
        task = await client.send("brainy", "LOOK")
        await client.http.aclose()
    assert text_of_json({"artifacts": task["artifacts"][:1]}) == "attempt 1 "


async def test_the_doctor_tells_the_truth_wherever_it_is_asked(installation: Installation) -> None:
    """[COMP-2]"""
    with anyio.fail_after(SECONDS):
        await until_it_answers(installation.urls[0])
        await until_the_worker_does(installation)
        asks = [
            partial(installation.run, "exec", "-T", name, "switchboard", "doctor", "--json") for name in ("gateway", "worker")
        ]
        reports = [json.loads(await to_thread.run_sync(ask)) for ask in asks]
    here, there = ({check["name"]: check for check in report["checks"]} for report in reports)
    assert here["worker"]["result"] == "none in this process, 1 elsewhere"
    assert "containers" not in here
    assert there["containers"]["ok"]
    assert [report["ok"] for report in reports] == [True, True]


def containers_of(data_dir: Path) -> list[str]:
    client = DockerClient.from_env()
    try:
        mine = {"label": f"{INSTALLATION}={data_dir / 'sessions'}"}
        return [one["Id"] for one in client.api.containers(all=True, filters=mine)]
    finally:
        client.close()


async def test_nobody_reaches_the_database_but_its_own_services(installation: Installation) -> None:
    client = DockerClient.from_env()
    try:
        named = set(installation.run("config", "--services").split())
        (database,) = installation.run("ps", "--quiet", "database").split()
        found = client.api.inspect_container(database)
    finally:
        client.close()
    assert named == {"database", "gateway", "gateway2", "worker"}
    assert (found["HostConfig"]["NetworkMode"], found["HostConfig"]["PortBindings"] or {}) == ("none", {})
    assert found["Config"]["User"] == "10001:10001"
