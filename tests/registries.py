"""A registry of images on loopback, for engines wherever they are."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from docker.client import DockerClient
from docker.errors import ImageNotFound

from tests import needs
from tests.engines import OwnEngine
from tests.support import free_port

_ANYBODY = {"username": "anybody", "password": "anything"}
_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
# An engine with a network of its own has a loopback of its own, which is down.
_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any:
    fcntl.ioctl(any, 0x8914, struct.pack("16sh", b"lo", 0x1))
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass
class Registry:
    """One storage; a process for each network it is to be found in, under the same address."""

    folder: Path
    port: int = field(default_factory=free_port)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def serve(self, beside: OwnEngine | None = None) -> None:
        """On this machine's loopback, or on that of an engine with its own."""
        config = self.folder / "config.yml"
        config.write_text(_CONFIG.format(folder=self.folder, port=self.port), "utf-8")
        words = [needs.a_registry(), "serve", str(config)]
        if beside is not None:
            words = ["nsenter", f"--net=/proc/{beside.pid}/ns/net", sys.executable, "-c", _UP, *words]
        with (self.folder / "log").open("ab") as log:
            self._processes.append(subprocess.Popen(words, stdout=log, stderr=log))

    def until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text("utf-8", "replace")
            time.sleep(0.02)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def push(self, client: DockerClient, image: str, name: str) -> str:
        """An image of an engine under `name:tag`, here. Answers what it is called now."""
        repository, _, tag = name.partition(":")
        repository = f"{self.address}/{repository}"
        client.images.get(image).tag(repository, tag)
        said = list(client.api.push(repository, tag, stream=True, decode=True, auth_config=_ANYBODY))
        assert not [line for line in said if "error" in line], said
        return f"{repository}:{tag}"

    def forget(self, digest: str) -> None:
        """As who deletes an image, `name@sha256:...`."""
        name, _, number = digest.removeprefix(f"{self.address}/").partition("@")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("DELETE", f"/v2/{name}/manifests/{number}")
        assert connection.getresponse().status == 202
        connection.close()

    def lose_contents(self) -> None:
        """As a registry whose disk has lost the layers: it knows every image and can give none."""
        for path in (self.folder / "data/docker/registry/v2/blobs").rglob("data"):
            if path.stat().st_size > 2**16:
                path.unlink()

    def forgotten_by(self, client: DockerClient) -> None:
        """An engine knows nothing by a name of this registry any more."""
        for image in client.images.list(filters={"reference": f"{self.address}/*"}):
            for name in [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]]:
                if name.startswith(self.address):
                    with suppress(ImageNotFound):  # with its tag went its digest
                        client.api.remove_image(name, noprune=True)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(10)


@contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    found = Registry(folder)
    found.serve()
    try:
        found.until_it_answers()
        yield found
    finally:
        found.close()
        shutil.rmtree(folder / "data", ignore_errors=True)
