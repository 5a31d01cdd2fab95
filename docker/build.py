"""Builds images through the engine DOCKER_HOST names: `switchboard-agent`, `-gateway` and `-postgres`.

    python docker/build.py agent gateway
    python docker/build.py --base local agent     # on a base of this machine's own programs: no registry is asked

What an image is made of decides its tag, and it is `latest`, too; one that is there already is not built again. What it
needs is copied from here, where `make` has installed it as this machine's npm and pip are set up, by the hashes of the
lock files: a build needs no network, and no address of an index gets into an image. So this machine has to be such as
its containers: Linux, with glibc.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from base import POSTGRES, local_base
from docker.client import DockerClient
from docker.errors import BuildError, ImageNotFound
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
CLIS = (ROOT / "tests/node_modules").resolve()  # pinned by tests/package-lock.json
# The scripted model, and packages whose only program the one that needs them has a copy of.
LEFT_OUT = ("@copilotkit", "opencode-linux-x64", "opencode-linux-x64-baseline", "opencode-linux-arm64", "claude-code-linux-x64")
PACKAGES = ("gateway", "adapters", "registry")
BASES = {
    "agent": "node:22-bookworm-slim",
    "gateway": f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim",
    "postgres": "postgres:17-bookworm",
}
MORE = {"postgres": POSTGRES}  # packages of a base made here

Fill = Callable[[tarfile.TarFile], None]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build Switchboard's images.")
    parser.add_argument("--base", help="the image to build on, or `local`: one made of this machine's programs")
    parser.add_argument("names", nargs="+", choices=["base", *BASES])
    given = parser.parse_args()
    client = DockerClient.from_env(timeout=600)
    for name in given.names:
        base = given.base or BASES.get(name, "local")
        base = local_base(client, MORE.get(name, "")) if base == "local" else base
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
            how = {
                "custom_context": True,
                "rm": True,
                "forcerm": True,
                "buildargs": {"BASE_IMAGE": base},
                "network_mode": "none",
            }
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


def gateway() -> tuple[list[bytes], Fill]:
    """The product, and the distributions it needs, as pip installed them here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = sorted(
        closure([*project["dependencies"], *project["optional-dependencies"]["grpc"]]), key=lambda found: found.name
    )
    sources = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*")) if is_source(path)]

    def fill(tar: tarfile.TarFile) -> None:
        for path in sources:
            tar.add(path, f"app/{path.relative_to(ROOT)}")
        for found in needed:
            for file in found.files or ():
                if ".." not in file.parts and Path(str(found.locate_file(file))).exists():
                    tar.add(found.locate_file(file), f"site/{file}")  # compiled files too, or a start takes long
        command = b'#!/bin/sh\nexec python3 -m gateway.cli "$@"\n'
        entry = tarfile.TarInfo("switchboard")
        entry.mode, entry.size = 0o755, len(command)
        tar.addfile(entry, io.BytesIO(command))

    names = [f"{found.name} {found.version}".encode() for found in needed]
    return [sys.version.encode(), *names, *(path.read_bytes() for path in sources)], fill


def postgres() -> tuple[list[bytes], Fill]:
    """The server is the base's; what starts it is ours."""
    start = ROOT / "docker/postgres-start"

    def fill(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo("postgres-start")
        entry.mode, entry.size = 0o755, start.stat().st_size
        with start.open("rb") as file:
            tar.addfile(entry, file)

    return [start.read_bytes()], fill


def is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def closure(needs: list[str]) -> list[Distribution]:
    """What these requirements stand for, and all that needs in turn."""
    found: dict[tuple[str, str], Distribution] = {}
    wanted = [(Requirement(need), "") for need in needs]
    while wanted:
        need, extra = wanted.pop()
        if need.marker is not None and not need.marker.evaluate({"extra": extra}):
            continue
        key = re.sub(r"[-_.]+", "-", need.name).lower()
        for chosen in ("", *need.extras):
            if (key, chosen) not in found:
                here = found[key, chosen] = distribution(key)
                wanted += [(Requirement(more), chosen) for more in here.requires or ()]
    return list({here.name: here for here in found.values()}.values())


CONTENTS = {"agent": agent, "gateway": gateway, "postgres": postgres}

if __name__ == "__main__":
    main()
