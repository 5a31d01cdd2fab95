"""Builds images through the engine DOCKER_HOST names: `switchboard-agent`, `switchboard-gateway`.

    python docker/build.py agent gateway
    python docker/build.py --base local agent     # on a base of this machine's own programs: no registry is asked

What an image is made of decides its tag, and it is `latest`, too; one that is there already is not built again. What it
needs is fetched here, by npm and pip as this machine has set them up, and copied in: a build needs no network, and no
address of an index gets into an image.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from base import local_base
from docker.client import DockerClient
from docker.errors import BuildError, ImageNotFound

ROOT = Path(__file__).resolve().parent.parent
CLIS = (ROOT / "tests/node_modules").resolve()  # pinned by tests/package-lock.json
# The scripted model, and packages whose only program the one that needs them has a copy of.
LEFT_OUT = ("@copilotkit", "opencode-linux-x64", "opencode-linux-x64-baseline", "opencode-linux-arm64", "claude-code-linux-x64")
BASES = {"agent": "node:22-bookworm-slim", "gateway": "python:3.12-slim"}

Fill = Callable[[tarfile.TarFile], None]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build Switchboard's images.")
    parser.add_argument("--base", help="the image to build on, or `local`: one made of this machine's programs")
    parser.add_argument("names", nargs="+", choices=["base", *BASES])
    given = parser.parse_args()
    client = DockerClient.from_env(timeout=600)
    for name in given.names:
        base = given.base or BASES.get(name, "local")
        base = local_base(client) if base == "local" else base
        print(base if name == "base" else built(client, name, base), flush=True)


def built(client: DockerClient, name: str, base: str) -> str:
    dockerfile = ROOT / f"docker/{name}.Dockerfile"
    made_of, fill = CONTENTS[name]()
    facts = hashlib.sha256(b"\0".join([base.encode(), dockerfile.read_bytes(), *made_of])).hexdigest()
    tag = f"switchboard-{name}:{facts[:16]}"
    try:
        image = client.images.get(tag)
    except ImageNotFound:
        build(client, dockerfile, tag, base, fill)
        image = client.images.get(tag)
    image.tag(f"switchboard-{name}", "latest")
    return tag


def build(client: DockerClient, dockerfile: Path, tag: str, base: str, fill: Fill) -> None:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(dockerfile, "Dockerfile")
            fill(tar)
        file.seek(0)
        try:
            how = {"custom_context": True, "rm": True, "forcerm": True, "buildargs": {"BASE_IMAGE": base}}
            client.images.build(fileobj=file, tag=tag, **how)
        except BuildError as exc:
            sys.exit("".join(str(line.get("stream", "")) for line in exc.build_log) + str(exc))


def agent() -> tuple[list[bytes], Fill]:
    """The four CLIs, as npm installed them here."""
    if not CLIS.is_dir():
        sys.exit(f"{CLIS} is missing. Run: make clis")

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        return None if entry.name.rsplit("/", 1)[-1] in LEFT_OUT else entry

    return [(ROOT / "tests/package-lock.json").read_bytes()], lambda tar: tar.add(CLIS, "node_modules", filter=wanted)


CONTENTS = {"agent": agent}

if __name__ == "__main__":
    main()
