"""The gateway's own image: a gateway in a container, whose agents run in containers beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx2
from docker.client import DockerClient

from tests import needs
from tests.e2e.legs import LEGS
from tests.e2e.stage import SECONDS, Stage
from tests.support import GatewayProcess, text_of


@contextmanager
def contained(image: str, data_dir: Path, agent_image: str) -> Iterator[GatewayProcess]:
    """A gateway as its image starts it, on the machine's network, with the engine's socket."""
    gateway = GatewayProcess(data_dir)
    named = {"PORT": str(gateway.port), "DATA_DIR": str(data_dir), "AGENT_IMAGE": agent_image, "CONTAINER_NETWORK": "host"}
    client = DockerClient.from_env()
    container = client.containers.run(
        image,
        detach=True,
        init=True,
        network_mode="host",
        environment={f"SWITCHBOARD_{name}": value for name, value in named.items()},
        volumes=[f"{data_dir}:{data_dir}", "/var/run/docker.sock:/var/run/docker.sock"],
    )
    try:
        yield gateway
    finally:
        container.stop(timeout=20)  # so that it takes its agents along
        container.remove(force=True)
        client.close()


async def test_a_gateway_in_a_container_starts_its_agents_in_others(stage: Stage, tmp_path: Path) -> None:
    agent_image, (leg, *_) = needs.an_engine(), [leg for leg in LEGS if leg.runtime == "codex"]
    with contained(needs.an_engine("gateway"), tmp_path, agent_image) as gateway, anyio.fail_after(SECONDS):
        await _until_it_answers(gateway)
        client = gateway.client()
        hello = await client.send("hello", "N=3")
        made = {"runtime": leg.runtime, "model": leg.model, "env": leg.env(stage.model.url), "placement": "docker"}
        await client.owner("agent.create", name="boxed", **made)
        boxed = await client.send("boxed", "SCN-text")
        await client.http.aclose()
    assert text_of(hello).startswith("word0 word1 word2")
    assert text_of(boxed) == "Hello from the model. This is a streamed answer in several pieces. Done."


async def _until_it_answers(gateway: GatewayProcess) -> None:
    async with httpx2.AsyncClient() as http:
        while True:
            try:
                (await http.get(f"{gateway.url}/health", timeout=2)).raise_for_status()
                return
            except httpx2.HTTPError:
                await anyio.sleep(0.1)
