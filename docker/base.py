"""A base image of this machine's own programs, with all they are linked to: for where no registry can be reached.

Debian's way of listing a package's files is all it needs to know. What it is made of decides its tag.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from glob import glob

from docker.client import DockerClient
from docker.errors import ImageNotFound

# Packages and patterns, as far as they are installed: what a runtime and its shell expect.
PACKAGES = """
    base-files bash ca-certificates coreutils curl dash debianutils diffutils findutils git grep gzip hostname libc-bin
    libc6 mawk nodejs node-acorn node-cjs-module-lexer node-undici patch procps ripgrep sed tar util-linux
    python3-minimal python3.*-minimal libpython3.*-minimal libpython3.*-stdlib
"""
POSTGRES = "postgresql-[1-9]* postgresql-client-[1-9]* tzdata"
USELESS = re.compile(
    r"/(doc|man|share/locale|info|include|lintian|bash-completion|perl5?|node_modules|config-3\.[^/]*|bitcode|llvmjit[^/]*)(/|$)"
)
MERGED = re.compile(r"^/(bin|sbin|lib|lib64|lib32|libx32)(?=/)")
LOADERS = ("/lib64/ld-linux-*.so.*", "/lib/ld-linux-*.so.*")
LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
FOLDERS = {"usr/local/bin": 0o755, "tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "run": 0o755, "home": 0o755}


class Failed(Exception):
    """What cannot be built. `message` says why, `hint` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message, self.hint = message, hint


def local_base(client: DockerClient, more: str = "") -> str:
    """The image's tag; made now if it is not there. `more`: packages beside the usual ones. Raises Failed."""
    if shutil.which("dpkg-query") is None:
        raise Failed("A base of this machine's programs can be made on Debian and its like only.", "Name one: --base IMAGE")
    if more and not any(packaged(more)):
        raise Failed(
            f"None of the packages {more!r} is installed here.", "Install them, or name a base that has them: --base IMAGE"
        )
    files = everything(f"{PACKAGES} {more}")
    facts = "".join(f"{path} {os.lstat(path).st_size} {os.lstat(path).st_mtime_ns}\n" for path in files)
    tag = f"switchboard-base:{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    try:
        client.images.get(tag)
    except ImageNotFound:
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            pack(file.name, files)
            repository, _, version = tag.partition(":")
            changes = ["ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin"]
            client.api.import_image(file.name, repository, version, changes=changes)
    return tag


@cache
def everything(packages: str) -> list[str]:
    """The files of these packages, and what they are linked to."""
    found = list(programs(packages))
    return sorted({*found, *libraries(found)})


def programs(packages: str) -> Iterator[str]:
    """Every file of the packages, and what is nobody's: Node where it was installed by hand, certificates, awk."""
    yield from packaged(packages)
    yield from wanted(["/etc/ssl/certs/ca-certificates.crt", "/etc/alternatives/awk", "/usr/bin/awk"])
    if node := shutil.which("node"):
        yield os.path.realpath(node)


def packaged(packages: str) -> Iterator[str]:
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${binary:Package}\n", *packages.split()]
    said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = [line.split()[1] for line in said.splitlines() if line.startswith("ii")]
    listed = subprocess.run(["dpkg", "--listfiles", *installed], capture_output=True, text=True, check=True).stdout
    yield from wanted(listed.splitlines())


def wanted(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if path.startswith("/") and not USELESS.search(path) and os.path.lexists(path) and not is_folder(path):
            yield MERGED.sub(r"/usr/\1", path)


def is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def is_program(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries(files: list[str]) -> Iterator[str]:
    """What the programs among `files` are linked to, with the names on the way."""
    linked = [path for path in files if not os.path.islink(path) and is_program(path)]
    said = [subprocess.run([*lister(), path], capture_output=True, text=True, check=False).stdout for path in linked]
    for path in {MERGED.sub(r"/usr/\1", found) for found in LINKED.findall("".join(said))}:
        yield path
        yield os.path.realpath(path)


@cache
def lister() -> list[str]:
    """The loader itself, which says the same in an eighth of the time; ldd where it is elsewhere."""
    found = sorted(path for pattern in LOADERS for path in glob(pattern))
    return [found[0], "--list"] if found else ["ldd"]


def pack(name: str, files: list[str]) -> None:
    with tarfile.open(name, "w") as tar:
        for path, target in LINKS.items():
            add(tar, path, type=tarfile.SYMTYPE, linkname=target)
        for path, mode in FOLDERS.items():
            add(tar, path, type=tarfile.DIRTYPE, mode=mode)
        for path in files:
            if path.lstrip("/") not in {*TEXTS, *LINKS}:
                tar.add(path, path.lstrip("/"), recursive=False)
        for path, text in TEXTS.items():
            with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.chmod(file.name, 0o644)
                tar.add(file.name, path)


def add(tar: tarfile.TarFile, path: str, **about: object) -> None:
    entry = tarfile.TarInfo(path)
    entry.mode = 0o755
    for name, value in about.items():
        setattr(entry, name, value)
    tar.addfile(entry)
