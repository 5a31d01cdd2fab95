"""Copies of journals where every worker can reach them, and what of a journal is copied.

A copy has the name of the attempt that left it, its fence: the higher, the newer.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

PARTS = ("home", "work")
NATIVE = "native.json"
# Written anew whenever they are missing.
CACHES = frozenset({"home/tmp", "home/.cache", "home/.npm", "home/.bun", "home/Library/Caches"})


class Copies(Protocol):
    """Where copies are. Methods block: they are for threads. All raise OSError."""

    def names(self, session_id: str) -> list[int]:
        """Of the copies there are, the newest first."""

    def restore(self, session_id: str, name: int, new: Path) -> dict[str, Any]:
        """Put a copy into the directory `new`, and answer what the runtime wanted remembered with it.
        Raises FileNotFoundError where a newer one has taken its place meanwhile."""

    def keep(self, session_id: str, name: int, place: Path, native: Mapping[str, Any]) -> None:
        """Copy the journal in `place`: whole, or not at all. Older copies are removed."""


def walk(folder: Path, name: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What of a part of a journal is kept, by its path (folders before what is in them): directories, files, symlinks."""
    with os.scandir(folder) as entries:
        for entry in entries:
            below = f"{name}/{entry.name}"
            if below in CACHES:
                continue
            if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield below, entry
            elif entry.is_dir(follow_symlinks=False):
                yield below, entry
                yield from walk(Path(entry.path), below)


def mirror(source: Path, target: Path, before: Path | None, name: str) -> None:
    """Copy what is kept of a part of a journal. What `before` has already is linked."""
    target.mkdir(parents=True, mode=0o700)
    made = [(source, target)]
    for below, entry in walk(source, name):
        path = below[len(name) + 1 :]
        new, old = target / path, before / path if before else None
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)
        elif entry.is_dir(follow_symlinks=False):
            new.mkdir(mode=0o700)
            made.append((Path(entry.path), new))
        elif not (old and _linked(entry, old, new)):
            shutil.copyfile(entry.path, new, follow_symlinks=False)
            shutil.copystat(entry.path, new, follow_symlinks=False)
    for folder, copy in made:
        shutil.copymode(folder, copy)


def looks(status: os.stat_result) -> tuple[int, int, int]:
    """By what a file is known that has not changed."""
    return status.st_size, status.st_mtime_ns, status.st_mode


def _linked(entry: os.DirEntry[str], old: Path, new: Path) -> bool:
    """Link `new` to `old`, if that is the file as it is."""
    try:
        was, now = old.lstat(), entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(was.st_mode) or looks(was) != looks(now):
            return False
        os.link(old, new)
    except OSError:
        return False
    return True
