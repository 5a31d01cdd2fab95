"""What each image is made of: the facts that decide its tag, and how its build context is filled."""

from __future__ import annotations

import io
import re
import sys
import tarfile
import tomllib
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from base import POSTGRES, Failed
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "tests/node_modules"  # pinned by tests/package-lock.json
CLIS = ("claude", "codex", "gemini", "opencode")  # programs of packages in tests/package.json
# The scripted model, and packages whose only program the one that needs them has a copy of.
LEFT_OUT = ("@copilotkit", "opencode-linux-x64", "opencode-linux-x64-baseline", "opencode-linux-arm64", "claude-code-linux-x64")
PACKAGES = ("gateway", "adapters", "registry")
PYTHON = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"

Fill = Callable[[tarfile.TarFile], None]


class Contents(NamedTuple):
    """`facts`: all that makes it another image. `fill` puts the rest beside the Dockerfile."""

    facts: list[bytes]
    fill: Fill


class Made(NamedTuple):
    """An image we can build. `more`: packages of a base that is made of this machine's programs."""

    dockerfile: Path
    base: str
    contents: Callable[[], Contents]
    more: str = ""


def agent() -> Contents:
    """The four CLIs, as npm installed them here. Raises Failed."""
    there = MODULES.resolve()
    if lacking := [name for name in CLIS if not (there / ".bin" / name).exists()]:
        raise Failed(f"The npm packages of {', '.join(lacking)} are not in {MODULES}.", "Run, in this checkout: make clis")

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        return None if entry.name.rsplit("/", 1)[-1] in LEFT_OUT else entry

    def fill(tar: tarfile.TarFile) -> None:
        tar.add(there, "node_modules", filter=wanted)
        for name in CLIS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, f"/opt/agent/node_modules/.bin/{name}"
            tar.addfile(entry)

    return Contents([(ROOT / "tests/package-lock.json").read_bytes(), " ".join(CLIS).encode()], fill)


def gateway() -> Contents:
    """The product, and the distributions it needs, as pip installed them here. Raises Failed."""
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
        program(tar, "switchboard", b'#!/bin/sh\nexec python3 -m gateway.cli "$@"\n')

    names = [f"{found.name} {found.version}".encode() for found in needed]
    return Contents([sys.version.encode(), *names, *(path.read_bytes() for path in sources)], fill)


def postgres() -> Contents:
    """The server is the base's; what starts it is ours."""
    start = (ROOT / "docker/postgres-start").read_bytes()
    return Contents([start], lambda tar: program(tar, "postgres-start", start))


def minimal() -> Contents:
    """The reference runtime."""
    path = ROOT / "docker/runtimes/minimal/runtime.py"
    return Contents([path.read_bytes()], lambda tar: tar.add(path, path.name))


def is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def program(tar: tarfile.TarFile, name: str, text: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o755, len(text)
    tar.addfile(entry, io.BytesIO(text))


def closure(needs: list[str]) -> list[Distribution]:
    """What these requirements stand for, and all that needs in turn. Raises Failed."""
    found: dict[tuple[str, str], Distribution] = {}
    wanted = [(Requirement(need), "") for need in needs]
    while wanted:
        need, extra = wanted.pop()
        if need.marker is not None and not need.marker.evaluate({"extra": extra}):
            continue
        key = re.sub(r"[-_.]+", "-", need.name).lower()
        for chosen in ("", *need.extras):
            if (key, chosen) not in found:
                here = found[key, chosen] = installed(key)
                wanted += [(Requirement(more), chosen) for more in here.requires or ()]
    return list({here.name: here for here in found.values()}.values())


def installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as exc:
        raise Failed(f"The Python package {name!r} is not installed here.", "Run, in this checkout: make setup") from exc


IMAGES = {
    "agent": Made(ROOT / "docker/agent.Dockerfile", "node:22-bookworm-slim", agent),
    "gateway": Made(ROOT / "docker/gateway.Dockerfile", PYTHON, gateway),
    "minimal": Made(ROOT / "docker/runtimes/minimal/Dockerfile", PYTHON, minimal),
    "postgres": Made(ROOT / "docker/postgres.Dockerfile", "postgres:17-bookworm", postgres, POSTGRES),
}
