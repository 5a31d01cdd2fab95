"""A way to the loopback of a process that has a network namespace of its own."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CLONE_NEWNET = 0x40000000


@contextmanager
def doorway(pid: int, port: int) -> Iterator[int]:
    """A port of this machine's loopback that leads to that of the process. Needs root."""
    words = [sys.executable, __file__, str(pid), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # its sockets are none of a test's
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _serve(pid: int, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            near, _ = listener.accept()
            threading.Thread(target=_lead, args=(near, pid, port), daemon=True).start()


def _lead(near: socket.socket, pid: int, port: int) -> None:
    with near, _within(pid, port) as far:
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join()


def _within(pid: int, port: int) -> socket.socket:
    """Of this thread, which is done afterwards: it stays in that namespace."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "The namespace cannot be entered.")
    finally:
        os.close(namespace)
    return socket.create_connection(("127.0.0.1", port))


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
