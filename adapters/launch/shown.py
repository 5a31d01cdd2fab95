"""What of the machine a sandbox has to show so that a program runs in it: its package, its interpreter's, links on the way.

A package is what npm installed together, an environment of Python's, or the directory a program's `bin` stands in. The last of
these is a guess, and below HOME a bad one: beside `~/.local/bin` and `~/bin` lies all that is the user's own. So there, and
wherever else it would show what is to be hidden, only the file itself is shown, with the libraries beside its `bin`.

Links are made again as they are, what they lead to is shown where it really is. What would still show HOME, or what is to be
hidden, is refused.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from errno import EPERM
from pathlib import Path, PurePath
from typing import NamedTuple

from adapters.launch.warden import LaunchError

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = """
    alternatives ca-certificates ca-certificates.conf gai.conf group host.conf hosts ld.so.cache ld.so.conf ld.so.conf.d
    localtime mime.types nsswitch.conf passwd protocols resolv.conf services ssl timezone
"""
ETC = tuple(f"/etc/{name}" for name in _ETC.split())
_LIBRARIES = ("lib", "lib64", "libexec")
_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")  # what stands in one of Python's


class Link(NamedTuple):
    place: str
    says: str


class Shown(NamedTuple):
    """`paths` are real, and none lies in another one; what every sandbox shows is not among them."""

    paths: list[str]
    links: list[Link]


def shown(program: str, path: str, sees: Collection[str] = (), hides: Iterable[str] = ()) -> Shown:
    """`path`: where a script's interpreter is looked for. `sees`: further paths. `hides`: what may not be seen.

    Raises LaunchError.
    """
    homes = _homes()
    hidden = [*homes, *map(os.path.realpath, hides)]
    named, found = [os.path.abspath(program), *_interpreter(program, path)], {os.path.realpath(name) for name in sees}
    for name in named:  # which grows
        for package in _packages(name, homes, hidden):
            found.add(str(package))
            python = str(package / "bin" / "python")
            if (package / "pyvenv.cfg").is_file() and os.path.exists(python) and python not in named:
                named.append(python)
    paths = _outermost(found)
    for one in paths:
        _check(one, hidden, os.path.basename(program))
    links = {link for name in (*named, *sees) for link in _links(name) if not _below(link.place, *SYSTEM, *ETC, *paths)}
    return Shown(paths, sorted(links))


def in_system(path: str) -> bool:
    """Whether every sandbox shows it."""
    return _below(path, *SYSTEM, *ETC)


def _homes() -> list[str]:
    """The user's, by the environment and by the system."""
    found = {os.path.realpath(os.path.expanduser("~"))}
    with suppress(KeyError):
        found.add(os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir))
    return [home for home in found if home != "/" and not in_system(home)]


def _packages(name: str, homes: list[str], hidden: list[str]) -> Iterator[Path]:
    """Of a program, and of a link to it where that stands in another one."""
    real = Path(os.path.realpath(name))
    place = Path(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    whole = _whole(real, homes, hidden)
    yield from _narrow(real, homes) if whole is None else [whole]
    if place != real and (whole := _whole(place, homes, hidden)) is not None:
        yield whole


def _whole(program: Path, homes: list[str], hidden: list[str]) -> Path | None:
    """The directory that holds all of a program and nothing else; None where there is none to be trusted."""
    for parent in program.parents:
        if parent.name == "node_modules":
            return parent
    in_bin = program.parent.name == "bin"
    guess = program.parent.parent if in_bin else program.parent
    if in_bin and any((guess / name).exists() for name in _ENVIRONMENT):
        return guess
    for home in homes:
        settings = guess.parent == Path(home) and guess.name.startswith(".")
        if _below(str(program), home) and (in_bin or settings):
            return None
    return None if str(guess) == "/" or any(_below(one, str(guess)) for one in hidden) else guess


def _narrow(program: Path, homes: list[str]) -> Iterator[Path]:
    yield program
    prefix = program.parent.parent
    if program.parent.name == "bin" and str(prefix) not in homes:
        for name in _LIBRARIES:
            if (prefix / name).is_dir() and not (prefix / name).is_symlink():
                yield prefix / name


def _interpreter(program: str, path: str) -> list[str]:
    """What a script's first line names."""
    with open(program, "rb") as file:
        line = file.readline(256)
    words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    found = shutil.which(words[0], path=path) if words else None
    return [] if found is None else [found]


def _links(path: str) -> Iterator[Link]:
    """The symbolic links on the way to what is there, each where it really stands."""
    at, todo = "/", list(reversed(PurePath(path).parts[1:]))
    while todo:
        part = todo.pop()
        here = os.path.normpath(os.path.join(at, part))  # which is right for `..`, since `at` is real
        if not os.path.islink(here):
            at = here
            continue
        says = os.readlink(here)
        yield Link(here, says)
        at = "/" if os.path.isabs(says) else at
        todo += reversed([part for part in PurePath(says).parts if part != "/"])


def _check(path: str, hidden: list[str], program: str) -> None:
    for one in hidden:
        if _below(one, path):
            what = f"The sandbox would show the agent {path!r}, which is or holds {one!r}"
            mend = f"Install {program!r} in a directory of its own, or keep the gateway's data elsewhere"
            raise LaunchError(EPERM, f"{what}: that is not for agents. {mend} (SWITCHBOARD_DATA_DIR).", "command")


def _below(path: str, *roots: str) -> bool:
    return any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in roots)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Those that no sandbox shows anyway, without those that lie inside another one."""
    found: list[str] = []
    for path in sorted(paths):
        if not in_system(path) and not _below(path, *found):
            found.append(path)
    return found
