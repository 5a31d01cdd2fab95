"""A command inside bubblewrap: it sees the system read-only, of everything else the session's two directories alone.

    argv = wrapped(["codex", "exec"], home=home, work=work, path=os.environ["PATH"])

Its processes live in a namespace of their own and die with it; other sessions' journals, the gateway's data and keys,
the user's own HOME and every socket below /run are not there. The two directories keep their names, so that a
conversation goes on when its agent moves into a sandbox or out of it.

The network is the machine's, or with `egress`, a socket of the gateway's, none at all: a loopback of its own on which
nothing listens but the relay, which hands connections to that socket.

Whether bubblewrap works here is found out by running it (`probe`): inside many containers it is installed and fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from errno import ENOENT
from functools import cache
from pathlib import Path
from typing import NamedTuple

from adapters.launch import relay
from adapters.launch.home import Bind
from adapters.launch.warden import LaunchError

PROGRAM = "bwrap"
RELAY_PORT = 3128  # on the loopback of a sandbox
_SOCKET, _RELAY = "/run/egress.sock", "/run/relay.py"  # inside
PROBE_SECONDS = 10.0
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = """
    alternatives ca-certificates ca-certificates.conf gai.conf group host.conf hosts ld.so.cache ld.so.conf ld.so.conf.d
    localtime mime.types nsswitch.conf passwd protocols resolv.conf services ssl timezone
"""
_ALONE = (
    *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL"),  # root keeps them otherwise, and could mount what it likes
)


def wrapped(
    argv: Sequence[str],
    *,
    home: str,
    work: str,
    path: str,
    sees: Iterable[str] = (),
    binds: Iterable[Bind] = (),
    egress: str | None = None,
    cwd: str = "",
) -> list[str]:
    """The command line that runs `argv` inside, in `work` or in `cwd` below. `sees`: further paths it may read.

    Raises LaunchError.
    """
    program = shutil.which(argv[0], path=path)
    if program is None:
        raise LaunchError(ENOENT, f"The command {argv[0]!r} was not found.", "command")
    words = [PROGRAM, *_ALONE, *_system(), "--proc", "/proc", "--dev", "/dev"]
    words += ["--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--tmpfs", "/run", "--hostname", "sandbox"]
    relayed = _relayed(egress) if egress else _Relayed()
    for readable in _outermost({*_program_paths(program, path), *sees, *relayed.sees}):
        words += ["--ro-bind", readable, readable]
    for own in (home, work):
        words += ["--bind", own, own]
    for bind in binds:
        words += ["--bind" if bind.writable else "--ro-bind", bind.source, bind.target]
    return [*words, *relayed.words, "--chdir", cwd or work, "--", *relayed.argv, program, *argv[1:]]


class _Relayed(NamedTuple):
    """What a sandbox without a network needs beside."""

    words: tuple[str, ...] = ()
    sees: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()


def _relayed(socket: str) -> _Relayed:
    python = os.path.realpath(sys.executable)
    return _Relayed(
        words=("--unshare-net", "--ro-bind", socket, _SOCKET, "--ro-bind", relay.__file__, _RELAY),
        sees=tuple(_outside(Path(sys.base_prefix))),
        argv=(python, "-I", "-S", _RELAY, f"{RELAY_PORT}={_SOCKET}"),
    )


@cache
def probe(*, network: bool = True) -> str:
    """Why no sandbox, with the machine's network or with none, can be made here; "" where one can. Found out once."""
    alone = _ALONE if network else (*_ALONE, "--unshare-net")
    argv = [PROGRAM, *alone, *_system(), "--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", "exit 0"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except FileNotFoundError:
        return f"{PROGRAM!r} was not found on PATH"
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{PROGRAM!r} could not be run: {exc}"
    said = done.stderr.decode("utf-8", "replace").strip()
    return f"{PROGRAM!r} does not work here: {said or f'exit code {done.returncode}'}" if done.returncode else ""


def _system() -> list[str]:
    words = []
    for name in _SYSTEM:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for name in _ETC.split():
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return words


def _program_paths(program: str, path: str) -> Iterator[str]:
    """What has to be there for a program outside the system's own directories: its package, and its interpreter's."""
    for name in (program, os.path.realpath(program)):
        yield from _outside(_package(Path(name)))
    interpreter = _interpreter(program, path)
    if interpreter is not None:
        for name in (interpreter, os.path.realpath(interpreter)):
            yield from _outside(_package(Path(name)))


def _package(program: Path) -> Path:
    """The directory that holds all of a program: what npm installed together, or the prefix its `bin` stands in."""
    for parent in program.parents:
        if parent.name == "node_modules":
            return parent
    return program.parent.parent if program.parent.name == "bin" else program.parent


def _outside(path: Path) -> Iterator[str]:
    if not any(path.is_relative_to(name) for name in _SYSTEM) and path != Path("/"):
        yield str(path)


def _interpreter(program: str, path: str) -> str | None:
    """What a script's first line names."""
    with open(program, "rb") as file:
        line = file.readline(256)
    if not line.startswith(b"#!"):
        return None
    words = os.fsdecode(line[2:]).split()
    named = words[1] if len(words) > 1 and os.path.basename(words[0]) == "env" else (words or [""])[0]
    return shutil.which(named, path=path)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie inside another one."""
    found: list[str] = []
    for path in sorted(paths):
        if not any(Path(path).is_relative_to(outer) for outer in found):
            found.append(path)
    return found
