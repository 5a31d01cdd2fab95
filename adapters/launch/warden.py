"""The gateway's end of the lifeline to one warden process (see warden_main for the messages).

Everything here is callbacks of the event loop and no task, so that nothing can be cancelled half-way: `send` queues
what the socket does not take at once, answers go to the child they name. A dead warden ends every child it had.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from errno import EBUSY, EPIPE, ETIMEDOUT
from typing import Any, Literal, Protocol

import anyio
from anyio.to_thread import run_sync

from adapters.launch import warden_main

START_TIMEOUT = 20.0
END_MARGIN = warden_main.GIVE_UP + 5.0  # beyond the grace, until we stop waiting for the warden's word

logger = logging.getLogger(__name__)


class LaunchError(Exception):
    """A process could not be started, or was lost. For owners; `what` tells which part failed."""

    def __init__(self, errno: int, message: str, what: Literal["command", "cwd", "files", "warden"] = "warden") -> None:
        super().__init__(message)
        self.errno = errno
        self.what = what


@dataclass(frozen=True, slots=True)
class Exited:
    """How a process ended: by itself with a code, or by a signal."""

    code: int | None
    signal: int | None
    out_of_memory: bool = False  # killed at the limit of its container


class Child(Protocol):
    """Who is told what becomes of a spawn: `started` at most once, `ended` once and last."""

    tag: str
    mark: int

    def started(self, pid: int) -> None: ...

    def ended(self, outcome: Exited | LaunchError) -> None: ...


class Link:
    """One warden process. `dead` once its lifeline has ended; a dead link is never used again."""

    def __init__(self, nofile: int) -> None:
        self.dead = False
        self.ready = anyio.Event()
        self.closing = False
        self._ended = anyio.Event()
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._outbox: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._children: dict[int, Child] = {}
        self._living: dict[int, str] = {}  # mark -> tag, until the warden says that nothing is left of it
        self._ends: dict[str, anyio.Event] = {}
        self._last_id = 0
        self._socket, self._popen = _run(nofile)
        self.pid = self._popen.pid
        self._loop.add_reader(self._socket.fileno(), self._receive)

    async def aclose(self) -> None:
        """End the warden and with it everything below it."""
        self.closing = True
        with anyio.CancelScope(shield=True):
            if not self.dead:
                self._socket.shutdown(socket.SHUT_WR)
            with anyio.move_on_after(warden_main.LAST_GIVE_UP + END_MARGIN):
                await self._ended.wait()
            if not self.dead:
                self._popen.kill()
                self._lose()
            await run_sync(self._popen.wait)

    def spawn(self, child: Child, argv: Sequence[str], env: Mapping[str, str], cwd: str, fds: Sequence[int]) -> None:
        """Ask for a child. `fds` (its stdin, stdout, stderr) are ours to close from here on."""
        if self.dead or child.tag in self._ends:
            _close_all(fds)
            return child.ended(_lost() if self.dead else LaunchError(EBUSY, f"The turn {child.tag!r} is still ending."))
        self._last_id += 1
        self._children[self._last_id] = child
        self._living[child.mark] = child.tag
        message = {"op": "spawn", "id": self._last_id, "tag": child.tag, "mark": child.mark}
        self._send(message | {"argv": list(argv), "env": dict(env), "cwd": cwd}, fds)
        return None

    async def end(self, tag: str, grace: float) -> None:
        """End every process of `tag`: TERM, and KILL after the grace. Returns when none is left. Bounded."""
        if tag not in self._living.values():
            return
        gone = self._ends.setdefault(tag, anyio.Event())
        self._send({"op": "end", "tag": tag, "grace": grace})
        with anyio.move_on_after(grace + END_MARGIN):
            await gone.wait()
            return
        logger.error("the warden did not answer; killing what is left of turn %s", tag)
        self._ends.pop(tag, None)
        warden_main.sweep(self._forget(tag))

    def _send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        self._outbox.append((memoryview(warden_main.pack_message(message)), fds))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                self._send_some(*self._outbox[0])
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        except OSError:
            self._lose()
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _send_some(self, data: memoryview, fds: Sequence[int]) -> None:
        """Descriptors travel with the first byte that is taken."""
        sent = socket.send_fds(self._socket, [data], list(fds)) if fds else self._socket.send(data)
        _close_all(fds)
        self._outbox.popleft()
        if sent < len(data):
            self._outbox.appendleft((data[sent:], ()))

    def _receive(self) -> None:
        try:
            data = self._socket.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._inbox += data
        while (message := warden_main.take_message(self._inbox)) is not None:
            self._obey(message)
        if not data:
            self._lose()

    def _obey(self, message: dict[str, Any]) -> None:
        match message["op"]:
            case "ready":
                self.ready.set()
            case "started":
                self._children[message["id"]].started(message["pid"])
            case "failed":
                error = LaunchError(message["errno"], os.strerror(message["errno"]), message["what"])
                child = self._children.pop(message["id"])
                self._living.pop(child.mark, None)
                child.ended(error)
            case "exited":
                self._children.pop(message["id"]).ended(Exited(message["code"], message["signal"]))
            case "gone":
                self._gone(message["tag"], message["left"])

    def _gone(self, tag: str, left: list[int]) -> None:
        if left:
            logger.error("processes of turn %s could not be killed: %s", tag, left)
        self._forget(tag)
        if (gone := self._ends.pop(tag, None)) is not None:
            gone.set()

    def _forget(self, tag: str) -> dict[int, str]:
        """The marks of `tag`, no longer ours to look after."""
        marks = {mark: other for mark, other in self._living.items() if other == tag}
        for mark in marks:
            del self._living[mark]
        return marks

    def _lose(self) -> None:
        """The warden is gone. Its children went to init: find and kill them, and tell everybody who waits."""
        if self.dead:
            return
        self.dead = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._drop_outbox()
        if not self.closing:
            logger.error("the warden (pid %d) ended unexpectedly with %d children", self.pid, len(self._children))
        _sweep_until_clean(self._living)
        for child in self._children.values():
            child.ended(_lost())
        for event in (*self._ends.values(), self.ready, self._ended):
            event.set()
        self._children.clear()
        self._living.clear()

    def _drop_outbox(self) -> None:
        for _, fds in self._outbox:
            _close_all(fds)
        self._outbox.clear()


async def connect(nofile: int) -> Link:
    """Start a warden and wait until it can work."""
    link = Link(nofile)
    try:
        with anyio.move_on_after(START_TIMEOUT):
            await link.ready.wait()
        if link.dead:
            raise LaunchError(EPIPE, "The process that starts runtimes could not start; its reason is on stderr.")
        if not link.ready.is_set():
            raise LaunchError(ETIMEDOUT, f"The process that starts runtimes did not answer within {START_TIMEOUT:.0f} s.")
    except BaseException:
        await link.aclose()
        raise
    return link


def _run(nofile: int) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the warden in a session of its own, out of reach of the terminal's signals."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    argv = [sys.executable, "-I", "-S", "-X", "utf8", warden_main.__file__, str(theirs.fileno()), str(nofile)]
    try:
        popen = subprocess.Popen(
            argv,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError as exc:
        ours.close()
        raise LaunchError(exc.errno or EPIPE, f"{sys.executable!r} could not be started: {exc.strerror}") from exc
    finally:
        theirs.close()
    return ours, popen


def _lost() -> LaunchError:
    return LaunchError(EPIPE, "The process that starts runtimes ended; its children were killed.")


def _sweep_until_clean(marks: Mapping[int, str]) -> None:
    for _ in range(5):
        if not marks or not warden_main.sweep(marks):
            return


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
