"""Copies of journals where every worker can reach them, and what of a journal is copied.

A copy has the name of the attempt that left it, its fence: the higher, the newer.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from gateway.turns.folders import FOLDER, READ, opened

PARTS = ("home", "work")
NATIVE = "native.json"
# Written anew whenever they are missing.
CACHES = frozenset({"home/tmp", "home/.cache", "home/.npm", "home/.bun", "home/Library/Caches"})
MAX_DEPTH = 200
_KEPT = frozenset({stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK})


class Copies(Protocol):
    """Where copies are. Methods block: they are for threads. All raise OSError."""

    def names(self, session_id: str) -> list[int]:
        """Of the copies there are, the newest first."""

    def restore(self, session_id: str, name: int, new: Path) -> dict[str, Any]:
        """Put a copy into the directory `new`, and answer what the runtime wanted remembered with it.
        Raises FileNotFoundError where a newer one has taken its place meanwhile."""

    def keep(self, session_id: str, name: int, place: Path, native: Mapping[str, Any]) -> None:
        """Copy the journal in `place`: whole, or not at all. Older copies are removed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a journal: a directory, a file or a symlink, as long as the walk stands at it."""

    path: str  # below the session's directory
    status: os.stat_result
    _name: str
    _folder: int

    @property
    def kind(self) -> Literal["dir", "file", "link"]:
        mode = self.status.st_mode
        return "dir" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"

    @property
    def target(self) -> str:
        return os.readlink(self._name, dir_fd=self._folder)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file. Raises FileNotFoundError where something else has taken its place."""
        try:
            handle = os.open(self._name, READ, dir_fd=self._folder)
        except OSError as exc:
            raise _gone(exc, self.path) from exc
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT), self.path)
            yield file


def walk(place: Path) -> Iterator[Kept]:
    """What is kept of a session's directory, folders before what is in them.

    Who writes there meanwhile leads nowhere else: nothing is opened by a path that could be changed, no symlink followed.
    """
    try:
        handle = os.open(place, FOLDER)
    except FileNotFoundError:
        return
    with opened(handle) as top:
        for part in PARTS:
            with suppress(FileNotFoundError):
                status = os.stat(part, dir_fd=top, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    yield Kept(part, status, part, top)
                    yield from _below(top, part, part, MAX_DEPTH)


def _below(parent: int, name: str, path: str, depth: int) -> Iterator[Kept]:
    if not depth:
        raise OSError(ENAMETOOLONG, f"Folders are in each other {MAX_DEPTH} times", path)
    try:
        handle = os.open(name, FOLDER, dir_fd=parent)
    except OSError as exc:
        raise _gone(exc, path) from exc
    with opened(handle) as folder, os.scandir(folder) as entries:
        for entry in entries:
            below = f"{path}/{entry.name}"
            if below in CACHES:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_IFMT(status.st_mode) in _KEPT:
                    yield Kept(below, status, entry.name, folder)
                if stat.S_ISDIR(status.st_mode):
                    yield from _below(folder, entry.name, below, depth - 1)


def _gone(exc: OSError, path: str) -> OSError:
    """What has become something else is not there any more."""
    return FileNotFoundError(ENOENT, os.strerror(ENOENT), path) if exc.errno in (ELOOP, ENOTDIR, ENXIO) else exc


def mirror(place: Path, target: Path, before: Path | None) -> None:
    """Copy what is kept of a session's directory. What `before` has already is linked."""
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    made: list[tuple[Path, int]] = []
    for kept in walk(place):
        new, old = target / kept.path, before / kept.path if before else None
        with suppress(FileNotFoundError):
            if kept.kind == "link":
                os.symlink(kept.target, new)
            elif kept.kind == "dir":
                new.mkdir(mode=0o700)
                made.append((new, stat.S_IMODE(kept.status.st_mode)))
            elif not (old and _linked(kept.status, old, new)):
                copy(kept, new)
    for folder, mode in made:
        folder.chmod(mode)


def copy(kept: Kept, new: Path) -> None:
    """A file that is kept, with its mode and times. Raises FileNotFoundError where it is no longer there."""
    with kept.opened() as file, new.open("xb") as out:
        shutil.copyfileobj(file, out)
        was = os.fstat(file.fileno())
        os.fchmod(out.fileno(), stat.S_IMODE(was.st_mode))
    os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))


def looks(status: os.stat_result) -> tuple[int, int, int]:
    """By what a file is known that has not changed."""
    return status.st_size, status.st_mtime_ns, status.st_mode


def _linked(now: os.stat_result, old: Path, new: Path) -> bool:
    """Link `new` to `old`, if that is the file as it is."""
    try:
        was = old.lstat()
        if not stat.S_ISREG(was.st_mode) or looks(was) != looks(now):
            return False
        os.link(old, new)
    except OSError:
        return False
    return True
