"""The images the kit is tried on, made here on the engine there is."""

from __future__ import annotations

import json
from pathlib import Path

from docker.client import DockerClient

from tests import needs
from tests.images import built

MINIMAL = Path(__file__).parents[3] / "docker/runtimes/minimal"
BROKEN = Path(__file__).with_name("broken.py")


def minimal(client: DockerClient) -> str:
    """The id of the reference runtime, as its own Dockerfile makes it."""
    files = {name: (MINIMAL / name).read_bytes() for name in ("Dockerfile", "runtime.py")}
    return built(client, "switchboard-test-minimal", files, {"BASE_IMAGE": needs.an_engine("base")})


def broken(client: DockerClient, name: str) -> str:
    entry = json.dumps(["python3", "/broken.py", name])
    dockerfile = f"FROM {needs.an_engine('base')}\nCOPY runtime.py broken.py /\nENTRYPOINT {entry}\n"
    files = {"Dockerfile": dockerfile.encode(), "runtime.py": (MINIMAL / "runtime.py").read_bytes()}
    return built(client, f"switchboard-test-{name}", files | {"broken.py": BROKEN.read_bytes()})
