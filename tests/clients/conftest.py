"""What the tests with other people's clients share: the clients, and a gateway they call."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.needs import missing
from tests.support import GatewayProcess, free_port, gateway_process

HERE = Path(__file__).parent
# what plays the scenarios -> (program, script, what must be there)
PLAYERS = {
    "a2a-sdk 0.3": (HERE / ".venv-sdk03/bin/python", "play_sdk03.py", ".venv-sdk03/.installed"),
    "@a2a-js/sdk 0.3": ("node", "play_js03.mjs", "node_modules/.installed"),
    "@a2a-js/sdk 1.x": ("node", "play_js10.mjs", "node_modules/.installed"),
    "google-adk": (HERE / ".venv-adk/bin/python", "play_adk.py", ".venv-adk/.installed"),
}


def played(name: str, *arguments: str) -> Any:
    """What a client found. Where it is not installed the test is skipped, but never on CI."""
    program, script, mark = PLAYERS[name]
    if not (HERE / mark).exists() or not shutil.which(program):
        missing(f"{name} is not installed. Run: make clients")
    ended = subprocess.run([program, HERE / script, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def served(data_dir: Path, **more: str) -> Iterator[GatewayProcess]:
    env = {"SWITCHBOARD_ALLOW_PRIVATE_HOSTS": "127.0.0.1", **more}
    with gateway_process(data_dir, env) as gateway:
        anyio.run(_create, gateway)
        yield gateway


async def _create(gateway: GatewayProcess) -> None:
    client = gateway.client()
    async with client.http:
        await client.owner("agent.create", name="echo", runtime="rehearsal")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """With the agent `echo`, over HTTP and gRPC."""
    address = f"127.0.0.1:{free_port()}"
    env = {"SWITCHBOARD_GRPC_PORT": address.split(":")[1], "SWITCHBOARD_GRPC_PUBLIC_ADDRESS": address}
    yield from served(tmp_path_factory.mktemp("clients"), **env)


@pytest.fixture(scope="session")
def web_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same without gRPC: one known client refuses a card with an address that is no URL."""
    yield from served(tmp_path_factory.mktemp("web"))
