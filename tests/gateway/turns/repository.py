"""A git repository of three commits, served over HTTP as real servers do, by git's own CGI program."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_WHO = {
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",  # the same commits wherever it is made
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(folder: Path, *argv: str) -> str:
    env = {**os.environ, **_WHO, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(["git", *argv], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def made(folder: Path) -> Path:
    """`main` has three commits of `count`; the first is tagged `first`; the branch `side/one` has a file more."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in (1, 2, 3):
        (folder / "count").write_text(f"{number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"commit {number}")
        if number == 1:
            git(folder, "tag", "first")
    git(folder, "checkout", "-q", "-b", "side/one")
    (folder / "more").write_text("side\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "side")
    git(folder, "checkout", "-q", "main")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


def nested(folder: Path, *modules: str) -> Path:
    """A repository that has others in it, by these URLs."""
    made(folder)
    for number, url in enumerate(modules):
        commit = git(folder, "rev-parse", "HEAD" if number else "first")
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},module{number}")
        with (folder / ".gitmodules").open("a") as file:
            file.write(f'[submodule "module{number}"]\n\tpath = module{number}\n\turl = {url}\n')
    git(folder, "add", ".gitmodules")
    git(folder, "commit", "-q", "-m", "modules")
    return folder


class _Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever says who they are to another origin, and the others to do so. Without one it only listens."""

    def __init__(self, origin: str, heard: list[str], *more: object) -> None:
        self._origin, self._heard = origin, heard
        super().__init__(*more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        said = self.headers.get("authorization")
        self._heard.append(said or "")
        leads = bool(said and self._origin)
        self.send_response(302 if leads else 401)
        self.send_header(*("Location", self._origin + self.path) if leads else ("WWW-Authenticate", 'Basic realm="git"'))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Cgi(BaseHTTPRequestHandler):
    def __init__(self, root: Path, wanted: str, asked: Callable[[], None], *more: object) -> None:
        self._root, self._wanted, self._asked = root, wanted, asked
        super().__init__(*more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._asked()
        if self._wanted and self.headers.get("authorization") != self._wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("content-length") or 0)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("content-type") or "",
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding") or "",
            "GIT_PROTOCOL": self.headers.get("git-protocol") or "",
        }
        done = subprocess.run(["git", "http-backend"], env=env, input=self.rfile.read(length), capture_output=True, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(
    root: Path, *, pair: str = "", cert: str = "", key: str = "", asked: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """The origin at which what is below `root` can be fetched; by who knows the pair of user and password.

    `asked` is called at each request, while whoever made it waits.
    """
    wanted = f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else ""
    with _serving(partial(_Cgi, root, wanted, asked), cert, key) as origin:
        yield origin


@contextmanager
def leading(origin: str, *, cert: str, key: str) -> Iterator[tuple[str, list[str]]]:
    """A server that leads to another origin, and what it heard of who asks."""
    heard: list[str] = []
    with _serving(partial(_Elsewhere, origin, heard), cert, key) as own:
        yield own, heard


@contextmanager
def _serving(handler: Callable[..., BaseHTTPRequestHandler], cert: str, key: str) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https://localhost' if cert else 'http://127.0.0.1'}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
