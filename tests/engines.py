"""A container engine of a test's own, which may be killed, with an image of a shell and little more.

It has a network namespace of its own: an engine without a bridge takes away the one it finds, which is another's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker.client import DockerClient
from docker.errors import APIError

from tests import needs

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "switchboard-shell"
DISK = "64m"
PROGRAMS = ("dash", "cat", "sleep", "tr", "touch", "head", "grep")
PYTHON = "python3-minimal python3.*-minimal libpython3.*-minimal libpython3.*-stdlib"


@dataclass
class OwnEngine:
    """Its data lies in `folder`/data; the path of its socket is short."""

    folder: Path
    more: str = ""  # options
    pid: int = 0
    _left: list[psutil.Process] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/s"

    def start(self) -> None:
        """Raises AssertionError where none can be started."""
        self._end_helper()
        own = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        plain = "--bridge=none --iptables=false --ip6tables=false --live-restore"
        where = [f"--{name}={self.folder / path}" for name, path in own.items()]
        options = " ".join([plain, self.more, f"--host={self.host}", *where])
        env = os.environ | {"ENGINE_OPTIONS": options, "DOCKER_HOST": self.host}
        words = [*_alone(), ".ci/engine"]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        self.pid = int(done.stdout)

    def _end_helper(self) -> None:
        """The one the engine before has left: a new engine waits 15 s for it. What runs in containers does not need it."""
        for process in self._left:
            with suppress(psutil.NoSuchProcess):
                if process.name() == "containerd":
                    process.kill()
                    process.wait(10)

    def kill(self) -> None:
        """kill -9 of the engine; what it started may live on."""
        engine = psutil.Process(self.pid)
        self._left += engine.children(recursive=True)
        engine.send_signal(signal.SIGKILL)
        while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)
        (self.folder / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """With all that runs on it, also what outlives an engine; one that was killed is started for that."""
        if not psutil.pid_exists(self.pid) or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
            self.start()
        with closing(self.client()) as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                with suppress(APIError):  # it is being removed
                    container.remove(force=True)
        engine = psutil.Process(self.pid)
        self._left += engine.children(recursive=True)
        engine.terminate()
        deadline = time.monotonic() + 30
        while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in self._left:
            if process.is_running():
                process.kill()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Its disk has no room left meanwhile."""
        filler = self.folder / "data/filler"
        with filler.open("wb") as file, suppress(OSError):
            while file.write(bytes(2**20)):
                file.flush()
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(b"x"):
                pass
        yield
        filler.unlink()

    def client(self) -> DockerClient:
        return DockerClient(base_url=self.host, timeout=60)


def _alone() -> list[str]:
    """Where no namespace can be made there is no bridge to take away either."""
    words = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else []


@contextmanager
def own_engine(
    patch: pytest.MonkeyPatch | None = None, *, disk: str = DISK, packages: str = "", more: str = ""
) -> Iterator[OwnEngine]:
    """It has IMAGE, with these packages; with a `patch` whoever asks DOCKER_HOST finds it. `more`: options.

    Gone at the end, with all that ran on it.
    """
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        needs.missing("An engine of a test's own needs dockerd, and root")
    folder = Path(tempfile.mkdtemp(prefix="swb-"))
    engine = OwnEngine(folder, more)
    (folder / "data").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(folder / "data")]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        needs.missing("An engine of a test's own needs a small disk, which cannot be mounted here")
    try:
        engine.start()
        if patch is not None:
            patch.setenv("DOCKER_HOST", engine.host)
        with closing(engine.client()) as client:
            load(client, packages)
        yield engine
    finally:
        if engine.pid:
            engine.stop()
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def load(client: DockerClient, packages: str = "", name: str = IMAGE) -> None:
    """Have an engine know an image of a shell and little more, with these packages."""
    base: Any = _base()
    files = [os.path.realpath(path) for name in PROGRAMS if (path := shutil.which(name, path="/usr/bin"))]
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        files += base.packaged(packages) if packages else []
        base.pack(file.name, sorted({*files, *base.libraries(files)}))
        with base.tarfile.open(file.name, "a") as tar:
            base.add(tar, "usr/bin/sh", type=base.tarfile.SYMTYPE, linkname="dash")
        client.api.import_image(file.name, name, "latest", changes=["ENV PATH=/usr/bin"])


def _base() -> Any:
    sys.path.insert(0, str(ROOT / "docker"))
    try:
        import base
    finally:
        sys.path.pop(0)
    return base


def _unmount(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {folder}/" in line]
    for path in reversed(mounted):
        subprocess.run(["umount", "--lazy", path], check=False)
