"""A webhook receiver that dies and comes back: its socket closes, with every connection it has accepted.

What it has stored it keeps, as on a disk. Its port stays its own while it is dead.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import anyio

from tests.gateway.deliver.receivers import Got, once

Fate = Literal["up", "busy", "dead", "dies before it stores", "dies before it answers"]
FATES: tuple[Fate, ...] = ("busy", "dead", "dies before it stores", "dies before it answers")


@dataclass
class Mortal:
    port: int
    fate: Fate = "dead"
    stored: list[Got] = field(default_factory=list)
    cut: int = 0  # requests that were read and never answered
    changed: anyio.Event = field(default_factory=anyio.Event)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def once(self) -> list[Got]:
        """Each delivery once, in the order in which they were first stored."""
        return once(self.stored)

    async def be(self, fate: Fate) -> None:
        """From now on."""
        self.fate = fate
        if fate == "dead":
            self.die()
        elif self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port))

    def die(self) -> None:
        """As a process does: its listening socket goes, and all others with it."""
        self.fate = "dead"
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)
        self._open.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        fate = self.fate
        if fate in ("up", "dies before it answers"):
            self.stored.append(Got("/hook", headers, body))
            self.changed.set()
            self.changed = anyio.Event()
        if fate in ("up", "busy"):
            status = "200 OK" if fate == "up" else "503 Service Unavailable"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        else:
            self.cut += 1
            self.die()


@asynccontextmanager
async def receiving() -> AsyncIterator[Mortal]:
    """Dead until it is told otherwise."""
    with _bound(0) as keeps_the_port:
        receiver = Mortal(keeps_the_port.getsockname()[1])
        try:
            yield receiver
        finally:
            receiver.die()


def _bound(port: int) -> socket.socket:
    """Nobody gets a port that somebody else has bound, but who says the same; and who does not listen is not there."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind(("127.0.0.1", port))
    return found
