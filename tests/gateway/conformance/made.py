"""The images the kit is tried on, made here on the engine there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docker.client import DockerClient

from tests import needs
from tests.images import built

MINIMAL = Path(__file__).parents[3] / "docker/runtimes/minimal"


def minimal(client: DockerClient) -> str:
    """The id of the reference runtime, as its own Dockerfile makes it."""
    return changed(client, "minimal", ())


def changed(client: DockerClient, name: str, changes: Sequence[tuple[str, str]]) -> str:
    """The id of the reference runtime, with each text of its program that stands in `changes` as it stands there."""
    source = (MINIMAL / "runtime.py").read_text("utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{name}: this stands {source.count(old)} times in the reference runtime: {old}"
        source = source.replace(old, new)
    files = {"Dockerfile": (MINIMAL / "Dockerfile").read_bytes(), "runtime.py": source.encode()}
    return built(client, f"switchboard-test-{name}", files, {"BASE_IMAGE": needs.an_engine("base")})
