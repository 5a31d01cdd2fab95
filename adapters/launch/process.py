"""Local processes as the engine sees them: start through the warden, write, read lines, stop with all descendants.

    warden = Warden(); await warden.start()
    process = await warden.spawn(["codex", "exec"], env=env, cwd=workspace, tag=turn_id)
    while batch := await process.lines(): ...
    exited = await process.wait()
    await process.aclose()

A tag names one turn's attempt: ending one process of a tag ends all of them. Linux only.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from errno import EINVAL, EMFILE, ENOENT, ETIMEDOUT
from signal import SIGKILL

import anyio

from adapters.launch import warden_main
from adapters.launch.lines import Line, LineReader, Ready, Tail
from adapters.launch.warden import Exited, LaunchError, Link, connect

__all__ = ["Exited", "LaunchError", "Process", "Warden", "kill_leftovers"]

NOFILE = 512  # open files of a child
SPAWN_TIMEOUT = 30.0
_NO_MARK = -2  # no process carries it: leftovers are known by their environment


class Warden:
    """Starts processes; one per worker. Nothing it started survives `aclose`, nor the death of this process."""

    def __init__(self, *, nofile: int = NOFILE) -> None:
        self._nofile = nofile
        self._link: Link | None = None
        self._lock = anyio.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the warden process."""
        return self._link.pid if self._link else None

    async def start(self) -> None:
        await self._connected()

    async def aclose(self) -> None:
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with self._lock:
                link, self._link = self._link, None
                if link is not None:
                    await link.aclose()

    async def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, tag: str) -> Process:
        """Start a process with exactly this environment (and SWITCHBOARD_TURN). Raises LaunchError."""
        if not argv:
            raise LaunchError(EINVAL, "The command is empty.", "command")
        command = [os.fsdecode(part) for part in argv]
        variables = {name: os.fsdecode(value) for name, value in env.items()}
        link = await self._connected()
        process = Process(link, tag)
        try:
            await process.launch(command, variables, cwd)
        except BaseException:
            await process.aclose()
            raise
        return process

    async def _connected(self) -> Link:
        async with self._lock:
            if self._closed:
                raise LaunchError(EINVAL, "The gateway is shutting down.")
            if self._link is not None and self._link.dead:
                link, self._link = self._link, None
                await link.aclose()
            if self._link is None:
                self._link = await connect(self._nofile)
            return self._link


class Process:
    """One started process. Made by `Warden.spawn`; whoever has it must `aclose` it."""

    def __init__(self, link: Link, tag: str) -> None:
        self.pid = 0
        self.tag = tag
        self.mark = secrets.randbits(62)
        self._link = link
        self._answered = anyio.Event()
        self._over = anyio.Event()
        self._outcome: Exited | LaunchError | None = None
        self._writing = anyio.Lock()
        theirs, ours = _pipes()
        self._theirs: Sequence[int] = theirs
        self._stdin = Ready(ours[0], writing=True)
        self._stdout = LineReader(ours[1])
        self._stderr = Tail(ours[2])

    # -- what the engine uses

    async def write(self, data: bytes) -> None:
        """All of `data` to stdin. Returns early if the process no longer reads: its exit tells the rest."""
        async with self._writing:
            view = memoryview(data)
            while view and not self._stdin.closed:
                try:
                    view = view[os.write(self._stdin.fd, view) :]
                except BlockingIOError:
                    await self._stdin.wait()
                except OSError:
                    self._stdin.close()

    async def close_stdin(self) -> None:
        """Half-close, after what is being written."""
        async with self._writing:
            self._stdin.close()

    async def lines(self) -> list[Line]:
        """The next lines of stdout, [] at the end: when it is closed, or all was read that the process wrote."""
        return await self._stdout.batch()

    def stderr_tail(self) -> str:
        return self._stderr.text()

    @property
    def has_ended(self) -> bool:
        return self._over.is_set()

    async def wait(self) -> Exited:
        """Raises LaunchError if the process was lost together with the warden."""
        await self._over.wait()
        if isinstance(self._outcome, Exited):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome

    async def stop(self, *, grace: float = 2.0) -> Exited:
        """Close stdin, TERM, KILL after the grace: the process and all its descendants, wherever they hide."""
        with anyio.CancelScope(shield=True):
            self._stdin.close()
            if not isinstance(self._outcome, LaunchError):  # never started, or lost: nothing to end
                await self._link.end(self.tag, grace)
        return self._outcome if isinstance(self._outcome, Exited) else Exited(None, SIGKILL)

    async def aclose(self) -> None:
        """Kill what is left of the tag and close the pipes."""
        try:
            await self.stop(grace=0)
        finally:
            self._stdout.close()
            self._stderr.close()

    # -- what the link tells

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        self._link.spawn(self, argv, env, cwd, self._theirs)
        with anyio.move_on_after(SPAWN_TIMEOUT):
            await self._answered.wait()
        if not self._answered.is_set():
            raise LaunchError(ETIMEDOUT, f"{argv[0]!r} was not started within {SPAWN_TIMEOUT:.0f} s.")
        if isinstance(self._outcome, LaunchError):
            raise _explained(self._outcome, argv[0], cwd) from self._outcome

    def started(self, pid: int) -> None:
        self.pid = pid
        self._answered.set()

    def ended(self, outcome: Exited | LaunchError) -> None:
        self._outcome = outcome
        self._stdin.close()
        self._stdout.finish()
        self._stderr.finish()
        self._answered.set()
        self._over.set()


def kill_leftovers(tag: str) -> int:
    """Kill what is left of a tag on this machine, whoever started it. Answers how many processes were found."""
    return warden_main.sweep({_NO_MARK: tag})


def _explained(error: LaunchError, command: str, cwd: str) -> LaunchError:
    if error.what == "cwd":
        return LaunchError(error.errno, f"The working directory {cwd!r} cannot be used: {error}.", "cwd")
    if error.what == "command" and error.errno == ENOENT:
        return LaunchError(ENOENT, f"The command {command!r} was not found.", "command")
    if error.what == "command":
        return LaunchError(error.errno, f"The command {command!r} could not be started: {error}.", "command")
    return error


def _pipes() -> tuple[list[int], list[int]]:
    """stdin, stdout, stderr: the child's ends, and ours, which never block."""
    try:
        return _open_pipes()
    except OSError as exc:
        raise LaunchError(exc.errno or EMFILE, f"The pipes to a process could not be opened: {exc.strerror}.") from exc


def _open_pipes() -> tuple[list[int], list[int]]:
    with ExitStack() as undo:
        theirs, ours = [], []
        for number in range(3):
            reader, writer = os.pipe()
            undo.callback(os.close, reader)
            undo.callback(os.close, writer)
            mine, its = (writer, reader) if number == 0 else (reader, writer)
            os.set_blocking(mine, False)
            ours.append(mine)
            theirs.append(its)
        undo.pop_all()
    return theirs, ours
