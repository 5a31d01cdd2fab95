"""One turn's way out of its sandbox: a socket beside the session's directories, and the proxy that answers there.

Whoever speaks to the socket is the turn: nothing else can see it, so nobody has to say who they are.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import anyio
import anyio.abc
import httpcore2
from anyio.abc import SocketListener

from adapters.events import Event
from adapters.profile import Profile
from gateway.deliver.guard import Guard
from gateway.dial import trust
from gateway.egress.judge import Judge
from gateway.egress.model import LOOPBACK, concealed, provider_of
from gateway.egress.policy import Policy
from gateway.egress.proxy import Proxy

CONNECTIONS = 64  # of one turn; more wait
_SOCKET = "egress.sock"
_WANTED = {"HTTP_PROXY": LOOPBACK, "HTTPS_PROXY": LOOPBACK, "NO_PROXY": "127.0.0.1,localhost"}
# What programs go by that know of proxies; nobody agrees on the case.
PROXIED: Mapping[str, str] = MappingProxyType(_WANTED | {name.lower(): value for name, value in _WANTED.items()})


@dataclass(frozen=True, slots=True)
class Gate:
    """`socket` is to be the only thing a sandbox can connect to; `env` its variables, without a secret of a provider."""

    socket: Path
    env: Mapping[str, str]
    judge: Judge


@dataclass(frozen=True, slots=True)
class Way:
    """What a gate is for: a policy, what it is about the agent's model, and the folder of its socket.

    Without a profile there is no way to a model.
    """

    policy: Policy
    profile: Profile | None
    provider: str | None
    env: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Gates:
    guard: Guard
    tls: ssl.SSLContext = field(default_factory=trust)  # towards providers

    @asynccontextmanager
    async def opened(self, way: Way, tell: Callable[[Sequence[Event]], None], **named: str) -> AsyncIterator[Gate]:
        """A gate, open until the end. `named`: whose it is, `agent` among them; it stands on every line of the audit."""
        profile, model, shown = way.profile, None, way.env
        if profile is not None:
            model, shown = concealed(profile, provider_of(profile, way.provider), way.env)
        judge = Judge(way.policy, self.guard, tell, named)
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=self.tls, max_connections=CONNECTIONS) as pool,
            anyio.create_task_group() as group,
        ):
            with _bound(way.folder) as listening:
                group.start_soon(_accept, listening, Proxy(judge, model, pool))
                yield Gate(way.folder / _SOCKET, {**shown, **PROXIED}, judge)
                group.cancel_scope.cancel()


@contextmanager
def _bound(folder: Path) -> Iterator[socket.socket]:
    """A socket of that folder. It is bound by way of the open folder: a socket's own path has at most 107 bytes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / _SOCKET
    path.unlink(missing_ok=True)  # of a gateway that was killed
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(f"/proc/self/fd/{handle}/{_SOCKET}")
        mine = path.stat()
        listening.listen(CONNECTIONS)
        try:
            yield listening
        finally:  # while it is open its number is nobody else's
            with suppress(FileNotFoundError):
                if os.path.samestat(mine, path.stat()):  # not of the attempt that followed ours
                    path.unlink()
    finally:
        listening.close()
        os.close(handle)


async def _accept(listening: socket.socket, proxy: Proxy) -> None:
    """Serve connections, so many at a time."""
    free = anyio.Semaphore(CONNECTIONS)

    async def serve(stream: anyio.abc.ByteStream) -> None:
        try:
            await proxy.serve(stream)
        finally:
            free.release()

    async with await SocketListener.from_socket(listening) as listener, anyio.create_task_group() as group:
        while True:
            await free.acquire()
            group.start_soon(serve, await listener.accept())
