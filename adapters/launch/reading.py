"""What a command in a container prints, read to its end: the first bytes and the last are kept.

The output is one stream, begins with the number of the command's process group, and ends with a line that only we know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from adapters.launch.frames import Attached, Frames

FLOOD = 256 * 2**20  # bytes after which a command that only prints is ended
CHUNK = 2**20  # bytes that are dropped at a time


class Ends(NamedTuple):
    """How much of an output is kept: its first bytes and its last."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Ran:
    """`code` is None where the command was ended by us, or lost. `left_out`: bytes between what was kept."""

    first: bytes
    last: bytes = b""
    left_out: int = 0
    code: int | None = None
    cause: str = ""  # timeout, flood, lost: it was ended; gone: nobody knows whether it was


class Reading:
    """A command's output as it comes: its process group, what is kept, its end."""

    def __init__(self, end: bytes, keep: Ends) -> None:
        self.group, self.cause = "", ""
        self._end = b"\n" + end + b" "
        self._spare = len(self._end) + 16  # bytes the end may have, with its number
        self._keep = keep
        self._head, self._tail = bytearray(), bytearray()
        self._left_out = 0
        self._frames = Frames()
        self._code: int | None = None

    async def all(self, connection: Attached) -> bool:
        """Whether it has ended by itself."""
        while chunk := await connection.chunk():
            for _, piece in self._frames.feed(chunk):
                self._take(piece)
            if self._has_ended(len(chunk)):
                return True
            if self._left_out > FLOOD:
                self.cause = "flood"
                return False
        self.cause = "lost"
        return False

    @property
    def ran(self) -> Ran:
        self._fill(0)
        self._drop(self._keep.last)
        return Ran(bytes(self._head), bytes(self._tail), self._left_out, self._code, self.cause)

    def _take(self, piece: bytes) -> None:
        self._tail += piece
        if not self.group and b"\n" in self._tail:
            line, _, rest = bytes(self._tail).partition(b"\n")
            self.group, self._tail = line.decode("ascii", "replace"), bytearray(rest)
        if self.group:
            self._fill(self._spare)
            if len(self._tail) > self._keep.last + self._spare + CHUNK:
                self._drop(self._keep.last + self._spare)

    def _fill(self, spare: int) -> None:
        """Move all but the last bytes to the first ones, while there is room."""
        movable = min(len(self._tail) - spare, self._keep.first - len(self._head))
        if movable > 0:
            self._head += self._tail[:movable]
            del self._tail[:movable]

    def _drop(self, most: int) -> None:
        over = len(self._tail) - most
        if over > 0:
            self._left_out += over
            del self._tail[:over]

    def _has_ended(self, new: int) -> bool:
        at = self._tail.find(self._end, max(0, len(self._tail) - new - self._spare))
        if at < 0 or not self._tail.endswith(b"\n", at + len(self._end)):
            return False
        self._code = int(self._tail[at + len(self._end) :].split(b"\n", 1)[0])
        del self._tail[at:]
        self._fill(0)
        return True
