"""A command inside bubblewrap: it sees the system read-only, of everything else the session's two directories alone.

    argv = wrapped(["codex", "exec"], home=home, work=work, path=os.environ["PATH"])

Its processes live in a namespace of their own and die with it; other sessions' journals, the gateway's data and keys,
the user's own HOME and every socket below /run are not there, but for what the command itself is made of (`shown`). The
two directories keep their names, so that a conversation goes on when its agent moves into a sandbox or out of it.

The network is the machine's, or with `egress`, a socket of the gateway's, none at all: a loopback of its own on which
nothing listens but the relay, which hands connections to that socket.

Whether bubblewrap works here is found out by running it (`probe`): inside many containers it is installed and fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from errno import ENOENT
from functools import cache
from typing import NamedTuple

from adapters.launch import relay
from adapters.launch.home import Bind
from adapters.launch.shown import ETC, SYSTEM, in_system, shown
from adapters.launch.warden import LaunchError

PROGRAM = "bwrap"
RELAY_PORT = 3128  # on the loopback of a sandbox
_SOCKET, _RELAY = "/run/egress.sock", "/run/relay.py"  # inside
PROBE_SECONDS = 10.0
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
    sees: Collection[str] = (),
    hides: Collection[str] = (),
    binds: Iterable[Bind] = (),
    egress: str | None = None,
    cwd: str = "",
) -> list[str]:
    """The command line that runs `argv` inside, in `work` or in `cwd` below.

    `sees`: further paths it may read. `hides`: what no path that it sees may be or hold, such as the gateway's data. Raises
    LaunchError.
    """
    program = shutil.which(argv[0], path=path)
    if program is None:
        raise LaunchError(ENOENT, f"The command {argv[0]!r} was not found.", "command")
    words = [PROGRAM, *_ALONE, *_system(), "--proc", "/proc", "--dev", "/dev"]
    words += ["--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--tmpfs", "/run", "--hostname", "sandbox"]
    relayed = _relayed(egress) if egress else _Relayed()
    for folder in filter(in_system, map(os.path.realpath, hides)):
        words += ["--tmpfs", folder] if os.path.isdir(folder) else []
    seen = shown(program, path, (*sees, *relayed.sees), hides)
    for readable in seen.paths:
        words += ["--ro-bind", readable, readable]
    for link in seen.links:
        words += ["--symlink", link.says, link.place]
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
        sees=(sys.base_prefix,),
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
    for name in SYSTEM:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += ["--ro-bind", name, name]
    for name in ETC:
        words += ["--ro-bind-try", name, name]
    return words
