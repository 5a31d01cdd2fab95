"""Images of one file, `brain.py`, for the engine there is."""

from __future__ import annotations

from pathlib import Path

from docker.client import DockerClient

from tests.images import built

TAG = "switchboard-test-brain"
BRAIN = Path(__file__).with_name("brain.py")


def made(client: DockerClient, base: str, tag: str = TAG, *, env: str = "") -> str:
    """The id of one with no shell in its way: its entry point is a program. `env` is a variable by which it is told apart."""
    lines = [f"FROM {base}", *([f"ENV {env}=1"] if env else []), "COPY brain.py /brain.py"]
    entry = 'ENTRYPOINT ["/usr/bin/python3", "-I", "/brain.py"]'
    return built(client, tag, {"Dockerfile": "\n".join([*lines, entry]).encode(), "brain.py": BRAIN.read_bytes()})
