"""The relay: inside a sandbox without a network it hands connections on loopback over to sockets of the gateway's.

    python -I -S relay.py PORT=SOCKET[,PORT=SOCKET...] [COMMAND ...]

A script of the standard library. With a command it becomes that command as soon as it listens, and a grandchild relays;
without one it relays itself, as the neighbour of a container does: it prints a line once it listens, and ends with its
stdin. It decides nothing and holds no secret: whoever is inside may as well speak to the sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import BoundedSemaphore, Thread

CONNECTIONS = 128
CHUNK = 64 * 1024


def relay(ways: list[tuple[socket.socket, str]]) -> None:
    """For ever."""
    *others, (listening, path) = ways
    for way in others:
        beside(relay, [way])
    free = BoundedSemaphore(CONNECTIONS)
    while free.acquire():
        ours, _ = listening.accept()
        beside(hand_over, ours, path, free)


def hand_over(ours: socket.socket, path: str, free: BoundedSemaphore) -> None:
    with ours, socket.socket(socket.AF_UNIX) as theirs, suppress(OSError):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a small piece waits for the receipt of the one before
        theirs.connect(path)
        back = beside(copy, theirs, ours)
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


def beside(what: Callable[..., None], *args: object) -> Thread:
    thread = Thread(target=what, args=args, daemon=True)
    thread.start()
    return thread


def neighbour(ways: list[tuple[socket.socket, str]]) -> None:
    """As long as somebody holds our stdin."""
    beside(relay, ways)
    print("listens", flush=True)
    while os.read(0, CHUNK):
        pass


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
    said, *command = sys.argv[1:]
    ways = []
    for port, path in (way.split("=", 1) for way in said.split(",")):
        ways.append((socket.create_server(("127.0.0.1", int(port)), backlog=CONNECTIONS), path))
    if command:
        become(command)
        relay(ways)
    else:
        neighbour(ways)


if __name__ == "__main__":
    main()
