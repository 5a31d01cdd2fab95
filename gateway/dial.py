"""Connections to addresses that were vetted (`deliver.guard`), and to nothing else; and who is believed at their other end."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cache
from typing import TypeVar

import anyio
import anyio.abc
import httpcore2
from httpcore2 import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

CONNECT_SECONDS = 10.0
MAX_TRIED = 4  # addresses of one host
T = TypeVar("T")


@cache
def trust() -> ssl.SSLContext:
    """The authorities this machine trusts. To read them takes a tenth of a start, so they are read once."""
    return ssl.create_default_context()


async def dial(addresses: Sequence[str], port: int) -> anyio.abc.ByteStream:
    """Raises OSError."""

    async def connect(address: str) -> anyio.abc.ByteStream:
        with anyio.fail_after(CONNECT_SECONDS):
            return await anyio.connect_tcp(address, port)

    return await first(addresses, connect)


class Pinned(AsyncNetworkBackend):
    """Dials these addresses, whatever name it is given; `only`: the name and port it may be given."""

    def __init__(self, addresses: Sequence[str], only: tuple[str, int] | None = None) -> None:
        self._addresses, self._only = addresses, only
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        if self._only is not None and (host, port) != self._only:
            raise httpcore2.ConnectError(f"{host}:{port} was not vetted")

        async def connect(address: str) -> AsyncNetworkStream:
            return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)

        return await first(self._addresses, connect)


async def first(addresses: Sequence[str], connect: Callable[[str], Awaitable[T]]) -> T:
    """The first that answers. Raises what the last one failed with."""
    *others, last = addresses[:MAX_TRIED]
    for address in others:
        try:
            return await connect(address)
        except (OSError, httpcore2.ConnectError, httpcore2.ConnectTimeout):
            continue
    return await connect(last)
