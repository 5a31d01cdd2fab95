"""Gateways that start in a moment: forked from a process that has imported everything already.

A thousand kills cost as many starts, and most of a start is Python reading modules. What is forked has read them, and
nothing else: no thread runs yet, no file is open, and what it does from there on is `python -m gateway` to the letter.

with nursery() as born:
    gateway = GatewayProcess(folder, born=born)
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.registration import profiles
from gateway.dial import trust
from tests.support import GATEWAY

MODULES = (
    "gateway.__main__",
    "gateway.app",
    "gateway.server",
    "gateway.working",
    "gateway.db.sqlite",
    "gateway.db.postgres",
    "alembic.command",
    "alembic.autogenerate",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "uvicorn.loops.uvloop",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.websockets.auto",
    "anyio._backends._asyncio",
    "anyio.streams.memory",
)


@dataclass
class Forked:
    """A process of the nursery's, with what tests use of `subprocess.Popen`."""

    pid: int
    _fd: int = field(init=False)
    _over: bool = False

    def __post_init__(self) -> None:
        self._fd = os.pidfd_open(self.pid)  # the nursery reaps nobody before it was told to

    def poll(self) -> int | None:
        """Whether it has ended; how is not known."""
        if not self._over and select.select([self._fd], [], [], 0)[0]:
            self._over = True
            os.close(self._fd)
        return 0 if self._over else None

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None and not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.poll() or 0

    def send_signal(self, how: signal.Signals) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, how)


@dataclass
class Nursery:
    _lifeline: socket.socket

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> Forked:
        """`python -m gateway` with these arguments, in this environment."""
        assert tuple(argv[:2]) == GATEWAY
        asked = json.dumps({"argv": list(argv[2:]), "env": dict(env), "log": str(log)}).encode()
        self._lifeline.sendall(len(asked).to_bytes(4) + asked)
        child = Forked(int.from_bytes(_exactly(self._lifeline, 4)))
        self._lifeline.sendall(b"!")  # it is held: whenever it dies now, its number is not another's
        return child


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Whoever is alive when it is left is killed."""
    ours, theirs = socket.socketpair()
    with subprocess.Popen([sys.executable, "-m", "tests.crash.nursery", str(theirs.fileno())], pass_fds=[theirs.fileno()]):
        theirs.close()
        with ours:
            _exactly(ours, 1)
            yield Nursery(ours)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _main(lifeline: socket.socket) -> None:
    for name in MODULES:
        importlib.import_module(name)
    trust()
    profiles()
    gc.collect()
    gc.freeze()  # what nobody collects is not copied into every child
    children: set[int] = set()
    with suppress(EOFError, ConnectionError):
        lifeline.sendall(b".")
        while True:
            asked = json.loads(_exactly(lifeline, int.from_bytes(_exactly(lifeline, 4))))
            pid = os.fork()
            if pid == 0:
                lifeline.close()
                _live(**asked)
            children.add(pid)
            lifeline.sendall(pid.to_bytes(4))
            _exactly(lifeline, 1)
            children = {child for child in children if os.waitpid(child, os.WNOHANG)[0] == 0}
    for child in children:
        os.kill(child, signal.SIGKILL)


def _live(argv: Sequence[str], env: Mapping[str, str], log: str) -> None:
    code = 1
    try:
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in (1, 2):
            os.dup2(out, fd)
        os.close(out)
        sys.argv[1:] = argv
        code = sys.modules["gateway.__main__"].main()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
