"""The relay: inside a sandbox without a network it hands connections on loopback over to a socket of the gateway's.

    python -I -S relay.py SOCKET PORT [COMMAND ...]

A script of the standard library. With a command it becomes that command as soon as it listens, and a grandchild relays;
without one it relays itself, as the neighbour of a container does. It decides nothing and holds no secret: whoever is
inside may as well speak to the socket.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from threading import BoundedSemaphore, Thread

CONNECTIONS = 128
CHUNK = 64 * 1024


def relay(listening: socket.socket, path: str) -> None:
    free = BoundedSemaphore(CONNECTIONS)
    while free.acquire():
        ours, _ = listening.accept()
        Thread(target=hand_over, args=(ours, path, free), daemon=True).start()


def hand_over(ours: socket.socket, path: str, free: BoundedSemaphore) -> None:
    with ours, socket.socket(socket.AF_UNIX) as theirs, suppress(OSError):
        theirs.connect(path)
        back = Thread(target=copy, args=(theirs, ours), daemon=True)
        back.start()
        copy(ours, theirs)
        back.join()
    free.release()


def copy(source: socket.socket, to: socket.socket) -> None:
    """All that comes, to its end; each side learns that the other one is done."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            to.sendall(data)
    for side, how in ((to, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with suppress(OSError):
            side.shutdown(how)


def become(command: list[str]) -> None:
    """Go on as the command in this process, and as the relay in a grandchild, which is nobody's to wait for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python; the command would inherit that
            signal.signal(ignored, signal.SIG_DFL)
        os.execv(command[0], command)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)


def main() -> None:
    path, port, *command = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=CONNECTIONS)
    if command:
        become(command)
    relay(listening, path)


if __name__ == "__main__":
    main()
