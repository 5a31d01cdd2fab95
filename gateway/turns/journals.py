"""Where a session's journal is: its directories on this machine, and copies of them where all workers can reach them.

A journal is a session's HOME and workspace. Each attempt that uses it has a name, its fence; the session's row remembers
the last one's (`JOURNAL` in `native`). A machine whose directories have seen that name has the journal as it is now. Any
other one restores the newest copy from the shared directory, or does without; then the runtime is told what was said
(`turns.primed`).

Copies are made when a turn's processes are gone (`turns.mounted`, `turns.objects`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.errors import UsageError
from gateway.turns.copies import PARTS, Copies
from gateway.turns.mounted import Mounted
from gateway.turns.objects import Objects

# In a session's `native`, beside the runtimes' names: the last attempt's name ("": its journal is nowhere), and that the
# runtime has lost its memory and did not say since that it has one.
JOURNAL, LOST = "@journal", "@lost"
SEEN = ".seen"  # in a session's directory: names of the attempts that used it, the newest last
REMEMBERED = 20
TRIES = 5  # of a copy that is replaced by a newer one while it is read


@dataclass(frozen=True, slots=True)
class Taken:
    """A journal that an attempt begins with.

    `native`: what the runtime wanted remembered then, where that is not known. `older`: it is a copy from before the last
    attempt, whose own was not made, or not in time.
    """

    how: Literal["here", "restored", "lost"]
    native: dict[str, Any] | None = None
    older: bool = False


@dataclass(frozen=True, slots=True)
class Journals:
    """Methods block: they are for threads. Raises OSError."""

    sessions: Path
    shared: Copies | None = None

    @classmethod
    def of(cls, sessions: Path, folder: Path | None, url: str) -> Journals:
        """With copies in a folder, at a URL, or nowhere. Raises UsageError."""
        if not url:
            return cls(sessions, Mounted(folder) if folder is not None else None)
        if folder is not None:
            raise UsageError("SWITCHBOARD_JOURNALS_DIR and SWITCHBOARD_JOURNALS_URL are both set.", "Unset one of them.")
        try:
            return cls(sessions, Objects.at(url))
        except ValueError as exc:
            hint = "Give one such as s3://bucket/journals."
            raise UsageError(f"SWITCHBOARD_JOURNALS_URL cannot be used: {exc}", hint) from exc
        except ImportError as exc:
            hint = "For S3 run: pip install 'a2a-switchboard[s3]'"
            raise UsageError(f"SWITCHBOARD_JOURNALS_URL needs a package that is missing: {exc}", hint) from exc

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
        if self.shared is None:
            return Taken("lost")
        for _ in range(TRIES):
            copy = next((name for name in self.shared.names(place.name) if name <= upto), None)
            if copy is None:
                break
            try:
                return Taken("restored", _restore(self.shared, copy, place), older=copy < upto)
            except FileNotFoundError:
                continue  # a newer one has taken its place meanwhile
        return Taken("lost")

    def keep(self, session_id: str, name: str, native: Mapping[str, Any]) -> None:
        """Copy the journal, as an attempt left it, to where others can reach it."""
        if self.shared is not None:
            self.shared.keep(session_id, int(name), self.sessions / session_id, native)


def _restore(copies: Copies, copy: int, place: Path) -> dict[str, Any]:
    new = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        native = copies.restore(place.name, copy, new)
        for part in PARTS:
            _renew(place / part, new / part, new / f"{part}.old")
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return native


def _renew(folder: Path, new: Path, old: Path) -> None:
    """Put what is in a directory in place of what is in another one, which itself stays: a container may have it mounted.

    Broken off in the middle it is done again, since the attempt's name is written down later.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    old.mkdir()
    for name in os.listdir(folder):
        os.rename(folder / name, old / name)
    if new.is_dir():
        folder.chmod(stat.S_IMODE(new.stat().st_mode))
        for name in os.listdir(new):
            os.rename(new / name, folder / name)


def replace(new: Path, place: Path) -> None:
    """Put one directory where another one may be."""
    old = new.with_name(new.name + ".old")
    if place.exists():
        os.rename(place, old)
    os.rename(new, place)
    shutil.rmtree(old, ignore_errors=True)


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
