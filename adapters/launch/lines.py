"""Lines of any length from a pipe, in batches, in flat memory. Nothing is read before somebody asks.

Lines end at b"\\n" and nowhere else: U+2028, U+0085 or "\\r" inside JSON must not split it, and bytes are never decoded
here, so no code point can be. asyncio's own stream reader fails on lines over 64 KiB and costs an await per line.

    Splitter    sans-I/O: bytes in, lines out (also for streams that are no pipe, such as a container's)
    LineReader  a non-blocking pipe's lines, a batch at a time
    Last        the last bytes of a stream, as text
    Tail        the same of a pipe that must be drained all the time (stderr)
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from typing import Any, NamedTuple

from anyio import BusyResourceError
from anyio.lowlevel import checkpoint

LIMIT = 4 * 1024 * 1024  # bytes kept of one line
READ = 256 * 1024  # bytes read at a time
TAIL = 64 * 1024  # bytes kept of stderr
_CONTINUATION = bytes(range(0x80, 0xC0))


class Line(NamedTuple):
    """One line without its newline; `truncated` where only the first bytes were kept.

    `receipt`, of a line that did not come through a pipe: who waits until all up to this line is told durably.
    """

    data: bytes
    truncated: bool = False
    receipt: Any = None


class Splitter:
    """Splits chunks into lines and keeps what is not complete, never more than `limit` bytes of it."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._over = False

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that `chunk` completes."""
        pieces = chunk.split(b"\n")
        self._keep(pieces[0])
        if len(pieces) == 1:
            return []
        limit = self._limit
        lines = [self._take(), *[Line(piece[:limit], len(piece) > limit) for piece in pieces[1:-1]]]
        self._keep(pieces[-1])
        return lines

    def end(self) -> list[Line]:
        """The last line, if it came without a newline."""
        return [self._take()] if self._rest or self._over else []

    def _keep(self, piece: bytes) -> None:
        room = self._limit - len(self._rest)
        self._over = self._over or len(piece) > room
        self._rest += piece[:room]

    def _take(self) -> Line:
        line = Line(bytes(self._rest), self._over)
        self._rest, self._over = bytearray(), False
        return line


class Ready:
    """Waits until a pipe can be read (or written), or until `wake`. Owns the descriptor and closes it once."""

    def __init__(self, fd: int, *, writing: bool = False) -> None:
        self.fd = fd
        self.closed = False
        self._writing = writing
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        if self._waiter is not None:
            raise BusyResourceError("using")
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        (loop.add_writer if self._writing else loop.add_reader)(self.fd, self.wake)
        try:
            await self._waiter
        finally:
            self.wake()

    def wake(self) -> None:
        """Let go of the loop at once: a descriptor's number may belong to somebody else right after its close."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        loop = waiter.get_loop()
        (loop.remove_writer if self._writing else loop.remove_reader)(self.fd)
        if not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.wake()
            os.close(self.fd)


class LineReader:
    """The lines of a non-blocking pipe, for one reader at a time. A cancelled `batch` loses nothing."""

    def __init__(self, fd: int, *, limit: int = LIMIT) -> None:
        self._ready = Ready(fd)
        self._splitter = Splitter(limit)
        self._left: int | None = None  # bytes that may still be read, once the writer is gone

    async def batch(self) -> list[Line]:
        """Every complete line that can be read now, at least one; [] at the end."""
        await checkpoint()
        while not self._ready.closed:
            chunk = self._read()
            if chunk is None:
                await self._ready.wait()
                continue
            if not chunk:
                self.close()
                return self._splitter.end()
            if lines := self._splitter.feed(chunk):
                return lines
            await checkpoint()
        return []

    def finish(self) -> None:
        """The writer is gone: what is in the pipe now is all there is, whoever else still holds its other end."""
        if not self._ready.closed and self._left is None:
            waiting = fcntl.ioctl(self._ready.fd, termios.FIONREAD, bytes(4))
            self._left = int.from_bytes(waiting, sys.byteorder)
            self._ready.wake()

    def close(self) -> None:
        self._ready.close()

    def _read(self) -> bytes | None:
        """What can be read now, None if nothing, b"" at the end."""
        most = READ if self._left is None else min(READ, self._left)
        try:
            chunk = os.read(self._ready.fd, most)
        except BlockingIOError:
            return None if self._left is None else b""
        if self._left is not None:
            self._left -= len(chunk)
        return chunk


class Last:
    """The last bytes of what was added."""

    def __init__(self, limit: int = TAIL) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._cut = False

    def add(self, chunk: bytes) -> None:
        self._kept += chunk
        self._cut = self._cut or len(self._kept) > self._limit
        del self._kept[: -self._limit]

    def text(self) -> str:
        """What was kept, without the half of a code point that it may begin with."""
        kept = bytes(self._kept)
        return (kept.lstrip(_CONTINUATION) if self._cut else kept).decode("utf-8", "replace")


class Tail:
    """Drains a non-blocking pipe all the time and keeps the last bytes. Made inside a running loop."""

    def __init__(self, fd: int, *, limit: int = TAIL) -> None:
        self._fd: int | None = fd
        self._last = Last(limit)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def text(self) -> str:
        return self._last.text()

    def finish(self) -> None:
        """The writer is gone: read what is in the pipe (a bounded number of times) and close it."""
        for _ in range(16):
            if not self._read():
                break
        self.close()

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._loop.remove_reader(fd)
            os.close(fd)

    def _read(self) -> bool:
        if self._fd is None:
            return False
        try:
            chunk = os.read(self._fd, TAIL)
        except BlockingIOError:
            return False
        if not chunk:
            self.close()
            return False
        self._last.add(chunk)
        return True
