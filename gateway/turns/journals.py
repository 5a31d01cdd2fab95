"""Where a session's journal is: its directories on this machine, and copies of them where all workers can reach them.

A journal is a session's HOME and workspace. Each attempt that uses it has a name, its fence; the session's row remembers
the last one's (`JOURNAL` in `native`). A machine whose directories have seen that name has the journal as it is now. Any
other one restores the newest copy from the shared directory, or does without; then the runtime is told what was said
(`turns.primed`).

    <shared>/<session>/<name>/{home, work, native.json}     as the turn of that name left them

Copies are made when a turn's processes are gone. Files that have not changed since the copy before are linked to it, so a
copy costs what has changed; it appears whole, under its name, or not at all.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# In a session's `native`, beside the runtimes' names: the last attempt's name ("": its journal is nowhere), and that the
# runtime has lost its memory and did not say since that it has one.
JOURNAL, LOST = "@journal", "@lost"
PARTS = ("home", "work")
# Written anew whenever they are missing.
CACHES = frozenset({"home/tmp", "home/.cache", "home/.npm", "home/.bun", "home/Library/Caches"})
SEEN = ".seen"  # in a session's directory: names of the attempts that used it, the newest last
NATIVE = "native.json"
REMEMBERED = 20
TRIES = 5  # of a copy that is replaced by a newer one while it is read


@dataclass(frozen=True, slots=True)
class Taken:
    """A journal that an attempt begins with. `native`: what the runtime wanted remembered then, where that is not known."""

    how: Literal["here", "restored", "lost"]
    native: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Journals:
    """Methods block: they are for threads. Raises OSError."""

    sessions: Path
    shared: Path | None = None

    def take(self, session_id: str, known: str | None, name: str) -> Taken:
        """Have the journal here that the attempt `known` left, for the attempt `name`."""
        place = self.sessions / session_id
        seen = _lines(place / SEEN)
        taken = Taken("here") if known is None or known in seen else self._restored(place, int(known or 0))
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = [*(seen if taken.how == "here" else [known or ""]), name]
        _write(place / SEEN, "\n".join(names[-REMEMBERED:]))
        return taken

    def _restored(self, place: Path, upto: int) -> Taken:
        for _ in range(TRIES):
            copy = next((copy for copy in self._copies(place.name) if int(copy.name) <= upto), None)
            if copy is None:
                break
            try:
                return Taken("restored", _restore(copy, place))
            except FileNotFoundError:
                continue  # a newer one has taken its place meanwhile
        return Taken("lost")

    def keep(self, session_id: str, name: str, native: Mapping[str, Any]) -> None:
        """Copy the journal, as an attempt left it, to where others can reach it."""
        if self.shared is None:
            return
        old, folder = self._copies(session_id), self.shared / session_id
        folder.mkdir(exist_ok=True, mode=0o700)
        new = folder / f".{secrets.token_hex(8)}"
        try:
            for part in PARTS:
                if (self.sessions / session_id / part).is_dir():
                    mirror(self.sessions / session_id / part, new / part, old[0] / part if old else None, part)
            _write(new / NATIVE, json.dumps(dict(native)))
            _flush(new)
            os.replace(new, folder / name)
            _flush(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        for copy in old:
            if int(copy.name) < int(name):
                shutil.rmtree(copy, ignore_errors=True)

    def _copies(self, session_id: str) -> list[Path]:
        """The newest first. Raises FileNotFoundError where the shared directory is not mounted."""
        if self.shared is None:
            return []
        self.shared.stat()
        folder = self.shared / session_id
        found = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
        return sorted(found, key=lambda path: int(path.name), reverse=True)


def _restore(copy: Path, place: Path) -> dict[str, Any]:
    new = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        for part in PARTS:
            if (copy / part).is_dir():
                mirror(copy / part, new / part, None, part)
        native: dict[str, Any] = json.loads((copy / NATIVE).read_text("utf-8"))
        replace(new, place)
        return native
    finally:
        shutil.rmtree(new, ignore_errors=True)


def replace(new: Path, place: Path) -> None:
    """Put one directory where another one may be."""
    old = new.with_name(new.name + ".old")
    if place.exists():
        os.rename(place, old)
    os.rename(new, place)
    shutil.rmtree(old, ignore_errors=True)


def mirror(source: Path, target: Path, before: Path | None, name: str) -> None:
    """Copy a directory: files, directories and symlinks, nothing else and no caches. What `before` has already is linked."""
    target.mkdir(parents=True, mode=0o700)
    for entry in _entries(source):
        below = f"{name}/{entry.name}"
        new, old = target / entry.name, before / entry.name if before else None
        if below in CACHES:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)
        elif entry.is_dir(follow_symlinks=False):
            mirror(Path(entry.path), new, old, below)
        elif entry.is_file(follow_symlinks=False) and not (old and _linked(entry, old, new)):
            shutil.copyfile(entry.path, new, follow_symlinks=False)
            shutil.copystat(entry.path, new, follow_symlinks=False)
    shutil.copymode(source, target)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def _linked(entry: os.DirEntry[str], old: Path, new: Path) -> bool:
    """Link `new` to `old`, if that is the file as it is."""
    try:
        was, now = old.lstat(), entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(was.st_mode) or _looks(was) != _looks(now):
            return False
        os.link(old, new)
    except OSError:
        return False
    return True


def _looks(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_mode


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    new.write_text(text, "utf-8")
    os.replace(new, path)


def _flush(folder: Path) -> None:
    """Have the file system that holds a folder write what it has not yet written."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), f"{folder} could not be synced")
    finally:
        os.close(fd)
