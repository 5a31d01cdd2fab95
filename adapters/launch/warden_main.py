"""The warden: one small process per worker that starts every local runtime and survives none of them.

It runs as a script (`python -I -S warden_main.py FD NOFILE`) and uses the standard library only. FD is its lifeline, a
socket to the gateway. When the lifeline ends, for whatever reason, the warden kills every process below itself and
exits, so nothing survives a gateway killed with -9. It is a subreaper: a descendant that daemonises becomes its child.

Messages both ways: four bytes of length, then JSON.
    spawn {id, tag, mark, argv, env, cwd} with stdin, stdout, stderr   -> started {id, pid} or failed {id, errno, what}
                                                                       -> exited {id, code, signal}
    end {tag, grace}    TERM to all of the tag, KILL after the grace   -> gone {tag, left}
    (at the start)                                                     -> ready {}

Deliberate: every child is started with its turn's mark as the soft limit on file locks. Linux has ignored that limit
since 2.4.25, but every descendant inherits it: through setsid, double forks, an emptied environment, and programs that
write their title over it. The variable SWITCHBOARD_TURN is the second way to tell whose a daemon is.

Deliberate: no preexec_fn and no fork. Limits, directory and mark are set on the warden itself just before
`posix_spawn`, which does not copy the process (about 1 ms in all).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

TURN = "SWITCHBOARD_TURN"
MARK = 10  # RLIMIT_LOCKS, which the resource module does not name
TICK = 0.05  # seconds between looks at processes that were asked to end; deaths of children wake the warden anyway
GIVE_UP = 5.0  # seconds after KILL: what is left then hangs in the kernel or belongs to another user
LAST_GIVE_UP = 60.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_RESET = (*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores the last two, and children would inherit that


@dataclass
class End:
    """A tag whose processes are to end."""

    kill_at: float
    asked: bool = False


class Warden:
    def __init__(self, lifeline: socket.socket) -> None:
        self.lifeline = lifeline
        self.inbox = bytearray()
        self.fds: list[int] = []
        self.children: dict[int, tuple[int, str]] = {}  # pid -> (id of the spawn, tag)
        self.marks: dict[int, str] = {}  # mark -> tag
        self.ends: dict[str, End] = {}

    def run(self) -> None:
        deaths = wake_on_deaths()
        poll = select.poll()
        poll.register(deaths, select.POLLIN)
        poll.register(self.lifeline, select.POLLIN)
        self.send({"op": "ready"})
        alive = True
        while alive:
            ready = [fd for fd, _ in poll.poll(TICK * 1000 if self.ends else None)]
            drain(deaths)
            self.reap()
            if self.lifeline.fileno() in ready:
                alive = self.receive()
            self.end_tags()
        self.end_all(deaths)

    # -- messages

    def receive(self) -> bool:
        """Read and obey. False when the gateway is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self.lifeline, 256 * 1024, 16)
        except OSError:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)  # recv_fds ignores its flags: python/cpython#107898
        self.inbox += data
        self.fds += fds
        while (message := take_message(self.inbox)) is not None:
            self.obey(message)
        return bool(data)

    def obey(self, message: dict[str, Any]) -> None:
        if message["op"] == "spawn":
            fds, self.fds = self.fds[:3], self.fds[3:]
            self.spawn(message, fds)
        else:
            kill_at = time.monotonic() + message["grace"]
            end = self.ends.setdefault(message["tag"], End(kill_at))
            end.kill_at = min(end.kill_at, kill_at)

    def send(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):  # the gateway is gone: the next receive tells
            self.lifeline.sendall(pack_message(message))

    # -- starting

    def spawn(self, message: dict[str, Any], fds: list[int]) -> None:
        id, tag = message["id"], message["tag"]
        what = "cwd"
        try:
            os.chdir(message["cwd"])
            what = "command"
            pid = start(message, fds)
        except (OSError, ValueError, TypeError) as exc:
            number = getattr(exc, "errno", None) or errno.EINVAL
            self.send({"op": "failed", "id": id, "errno": number, "what": what})
        else:
            self.children[pid] = (id, tag)
            self.marks[message["mark"]] = tag
            self.send({"op": "started", "id": id, "pid": pid})
        finally:
            os.chdir("/")
            for fd in fds:
                os.close(fd)

    # -- ending

    def reap(self) -> bool:
        """Collect the dead. False when the warden has no descendants left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid in self.children:
                id, _ = self.children.pop(pid)
                code = os.waitstatus_to_exitcode(status)
                how = {"code": code, "signal": None} if code >= 0 else {"code": None, "signal": -code}
                self.send({"op": "exited", "id": id, **how})

    def end_tags(self) -> None:
        if not self.ends:
            return
        found = self.survey()
        # A process can slip through one look while it is handed over to the warden, never through the next as well.
        again = found if self.ends.keys() <= found.keys() else self.survey()
        now = time.monotonic()
        for tag, end in list(self.ends.items()):
            left = found.get(tag) or again.get(tag) or []
            if not left or now > end.kill_at + GIVE_UP:
                self.forget(tag, left)
            elif now >= end.kill_at:
                kill(left, signal.SIGKILL)
            elif not end.asked:
                end.asked = True
                kill(left, signal.SIGTERM)

    def forget(self, tag: str, left: list[int]) -> None:
        del self.ends[tag]
        self.marks = {mark: other for mark, other in self.marks.items() if other != tag}
        self.send({"op": "gone", "tag": tag, "left": left})

    def survey(self) -> dict[str, list[int]]:
        """Every living process by tag. What hangs below a process of a tag is of that tag."""
        found: dict[str, list[int]] = {}
        for pid in children_of(os.getpid()):
            tag = self.children[pid][1] if pid in self.children else turn_of(pid, self.marks)
            if tag is not None:
                found.setdefault(tag, []).extend([pid, *descendants_of(pid)])
        return found

    def end_all(self, deaths: int) -> None:
        """Kill every descendant, whosever it is, until the kernel says that there is none."""
        give_up = time.monotonic() + LAST_GIVE_UP
        while self.reap() and time.monotonic() < give_up:
            kill(descendants_of(os.getpid()), signal.SIGKILL)
            select.select([deaths], [], [], TICK)
            drain(deaths)


def start(message: Mapping[str, Any], fds: list[int]) -> int:
    """Start the child in the present directory, in its own session, with nothing but what the message names."""
    if len(fds) != 3:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    env = {**message["env"], TURN: message["tag"]}
    path = find_executable(message["argv"][0], env.get("PATH", os.defpath))
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds)]
    with marked(message["mark"]):
        return os.posix_spawn(path, message["argv"], env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_RESET)


@contextmanager
def marked(mark: int) -> Iterator[None]:
    """What is started inside carries `mark`. The warden itself must not: a sweep would take it for one of the turn's."""
    before = resource.getrlimit(MARK)
    with suppress(OSError, ValueError):  # where the hard limit is lower the variable alone must do
        resource.setrlimit(MARK, (mark, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(MARK, before)


def find_executable(name: str, path: str) -> str:
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def turn_of(pid: int, marks: Mapping[int, str]) -> str | None:
    """Whose a process is that no living child of ours can be asked about."""
    with suppress(OSError):
        soft, _ = resource.prlimit(pid, MARK)
        if soft in marks:
            return marks[soft]
    name = TURN.encode() + b"="
    for item in read_file(f"/proc/{pid}/environ").split(b"\0"):
        if item.startswith(name):
            return os.fsdecode(item[len(name) :])
    return None


def children_of(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in read_file(f"/proc/{pid}/task/{thread}/children").split()]


def descendants_of(pid: int) -> list[int]:
    found = children_of(pid)
    for child in found:  # grows while it is read
        found += children_of(child)
    return found


def kill(pids: Iterable[int], number: int) -> None:
    """Signal the groups of `pids`, whole: a group cannot be outrun by its own forks.

    Children begin as leaders of their own session, so that a group never holds a stranger.
    """
    groups = set()
    for pid in pids:
        with suppress(OSError):
            groups.add(os.getpgid(pid))
    for group in groups - {0, 1, os.getpgid(0)}:
        with suppress(OSError):
            os.killpg(group, number)


def sweep(marks: Mapping[int, str]) -> int:
    """For a gateway whose warden died: kill what is left of these turns wherever it is. Returns how many were found."""
    tags = set(marks.values())
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = [pid for pid in pids if turn_of(pid, marks) in tags]
    kill([other for pid in found for other in (pid, *descendants_of(pid))], signal.SIGKILL)
    return len(found)


def read_file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def pack_message(message: Mapping[str, Any]) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return len(data).to_bytes(4, "big") + data


def take_message(inbox: bytearray) -> dict[str, Any] | None:
    """The first whole message, taken out of `inbox`."""
    end = 4 + int.from_bytes(inbox[:4], "big")
    if len(inbox) < max(end, 5):
        return None
    message: dict[str, Any] = json.loads(inbox[4:end])
    del inbox[:end]
    return message


def wake_on_deaths() -> int:
    """A descriptor that can be read after a child has died."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def drain(fd: int) -> None:
    with suppress(BlockingIOError):
        while len(os.read(fd, 4096)) == 4096:
            pass


def limit(nofile: int) -> None:
    """What every child inherits. Never RLIMIT_AS: some runtimes reserve more than 100 GB of address space."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = nofile if hard == resource.RLIM_INFINITY else min(hard, nofile)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(fd: int, nofile: int) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SystemExit("this kernel has no subreapers")
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        raise SystemExit("/proc/PID/task/TID/children is missing: this kernel was built without PROC_CHILDREN")
    limit(nofile)
    os.chdir("/")
    lifeline = socket.socket(fileno=fd)
    lifeline.set_inheritable(False)
    Warden(lifeline).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
