"""TLS without a socket: what goes on the wire for what is said, and what is said by what came.

A socket of Python's own under TLS can be half-closed only by waiting for the other side, which has more to say.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

PIECE = 65_536  # bytes


class Seal:
    """`over`: the other side has said that nothing more comes, or what came is no TLS."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.over = False
        self._come, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._goes, server_hostname=host)

    def shake_hands(self, connection: socket.socket) -> None:
        """Blocks. Raises OSError, such as SSLError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                connection.sendall(self._goes.read())
                self._come.write(some(connection))
            else:
                connection.sendall(self._goes.read())
                return

    def sealed(self, data: bytes) -> bytes:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        return self._goes.read()

    def opened(self, data: bytes) -> bytes:
        """b"" where that is not enough for anything, or nothing more comes."""
        self._come.write(data)
        pieces = []
        try:
            while piece := self._tls.read(PIECE):
                pieces.append(piece)
            self.over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.over = True
        return b"".join(pieces)

    def farewell(self) -> bytes:
        """That nothing more comes from here. The other side may go on."""
        with suppress(ssl.SSLError):  # it wants the other's farewell at once
            self._tls.unwrap()
        return self._goes.read()


def some(connection: socket.socket) -> bytes:
    """What comes next. Raises OSError, also at the end."""
    found = connection.recv(PIECE)
    if not found:
        raise ConnectionResetError("It has closed the connection.")
    return found
