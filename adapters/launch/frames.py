"""A container's attached connection: what goes in is its stdin, what comes out are frames of its stdout and stderr.

    Frames      sans-I/O: bytes in, pieces of either stream out
    Attached    the connection: lines of stdout in batches, the last bytes of stderr, a half-close after the input

Nothing is read before somebody asks, so that a container which prints faster than it is read has to wait.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import anyio
from anyio.lowlevel import checkpoint

from adapters.launch.lines import READ, Last, Line, Ready, Splitter
from adapters.launch.seal import Seal

_HEADER = 8  # bytes: the stream, three zeros, the length of what follows
_STDOUT = 1


class Frames:
    def __init__(self) -> None:
        self._header = bytearray()
        self._stream = 0
        self._left = 0  # bytes of the frame that are still to come

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """(stream, bytes) of all that `chunk` brings; a frame may come in many pieces."""
        view = memoryview(chunk)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield self._stream, bytes(piece)
                continue
            missing = _HEADER - len(self._header)
            self._header += view[:missing]
            view = view[missing:]
            if len(self._header) == _HEADER:
                self._stream, self._left = self._header[0], int.from_bytes(self._header[4:], "big")
                self._header.clear()


class Attached:
    """Takes the socket over. One reader and any number of writers; a cancelled `batch` loses nothing.

    `early` was read from it already; with a `seal` it is encrypted.
    """

    def __init__(self, connection: socket.socket, early: bytes = b"", seal: Seal | None = None) -> None:
        self._early, self._seal = early, seal
        connection.setblocking(False)
        self._in = Ready(os.dup(connection.fileno()), writing=True)
        self._out = Ready(connection.detach())
        self._writing = anyio.Lock()
        self._frames = Frames()
        self._stdout = Splitter()
        self._stderr = Last()

    @property
    def at_end(self) -> bool:
        return self._out.closed

    def stderr_tail(self) -> str:
        return self._stderr.text()

    async def batch(self) -> list[Line]:
        """Every complete line of stdout that can be read now, at least one; [] at the end."""
        if self._out.closed:
            await checkpoint()
            return []
        while chunk := await self.chunk():
            if lines := self._sorted(chunk):
                return lines
        return self._stdout.end()

    async def chunk(self) -> bytes:
        """What can be read now, frames and all; b"" at the end. For who does not want lines."""
        await checkpoint()
        while not self._out.closed:
            chunk = self._read()
            if chunk is None:
                await self._out.wait()
                continue
            if not chunk:
                self.close()
            return chunk
        return b""

    async def write(self, data: bytes) -> None:
        """All of `data`. Returns early where nobody reads any more: the exit tells the rest."""
        async with self._writing:
            await self._send(self._seal.sealed(data) if self._seal else data)

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._in.closed:
            try:
                view = view[os.write(self._in.fd, view) :]
            except BlockingIOError:
                await self._in.wait()
            except OSError:
                self._in.close()

    async def half_close(self) -> None:
        async with self._writing:
            if self._seal:
                await self._send(self._seal.farewell())
            self.cut()

    def cut(self) -> None:
        """The input ends here, even in the middle of a `write`."""
        if self._in.closed:
            return
        with socket.socket(fileno=os.dup(self._in.fd)) as connection, suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        self._in.close()

    def close(self) -> None:
        self._in.close()
        self._out.close()

    def _read(self) -> bytes | None:
        """What can be read now, None if nothing, b"" at the end."""
        if self._early:
            early, self._early = self._early, b""
            return early
        if self._seal is None:
            return self._received()
        if self._seal.over:
            return b""
        received = self._received()
        if not received:
            return received
        return self._seal.opened(received) or (b"" if self._seal.over else None)

    def _received(self) -> bytes | None:
        try:
            return os.read(self._out.fd, READ)
        except BlockingIOError:
            return None
        except OSError:  # the engine went away
            return b""

    def _sorted(self, chunk: bytes) -> list[Line]:
        lines: list[Line] = []
        for stream, piece in self._frames.feed(chunk):
            if stream == _STDOUT:
                lines += self._stdout.feed(piece)
            else:
                self._stderr.add(piece)
        return lines
