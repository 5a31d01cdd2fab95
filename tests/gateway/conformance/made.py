"""The images the kit is tried on, made here on the engine there is."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from docker.client import DockerClient

from tests import needs

MINIMAL = Path(__file__).parents[3] / "docker/runtimes/minimal"
BROKEN = Path(__file__).with_name("broken.py")


def minimal(client: DockerClient) -> str:
    """The id of the reference runtime, as its own Dockerfile makes it."""
    files = {name: (MINIMAL / name).read_bytes() for name in ("Dockerfile", "runtime.py")}
    return _built(client, "switchboard-test-minimal", files, {"BASE_IMAGE": needs.an_engine("base")})


def broken(client: DockerClient, name: str) -> str:
    entry = json.dumps(["python3", "/broken.py", name])
    dockerfile = f"FROM {needs.an_engine('base')}\nCOPY runtime.py broken.py /\nENTRYPOINT {entry}\n"
    files = {"Dockerfile": dockerfile.encode(), "runtime.py": (MINIMAL / "runtime.py").read_bytes()}
    return _built(client, f"switchboard-test-{name}", files | {"broken.py": BROKEN.read_bytes()}, {})


def _built(client: DockerClient, tag: str, files: dict[str, bytes], args: dict[str, str]) -> str:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        file.seek(0)
        how = {"custom_context": True, "rm": True, "forcerm": True, "buildargs": args}
        image, _ = client.images.build(fileobj=file, tag=tag, **how)
    return str(image.id)
