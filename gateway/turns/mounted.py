"""Copies of journals in a directory that every worker mounts.

    <root>/<session>/<name>/{home, work, native.json}     as the attempt of that name left them

Files that have not changed since the copy before are linked to it, so a copy costs what has changed; it appears whole,
under its name, or not at all.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.turns.copies import NATIVE, mirror


@dataclass(frozen=True, slots=True)
class Mounted:
    """See `copies.Copies`."""

    root: Path

    def names(self, session_id: str) -> list[int]:
        self.root.stat()
        folder = self.root / session_id
        found = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
        return sorted(found, reverse=True)

    def restore(self, session_id: str, name: int, new: Path) -> dict[str, Any]:
        copy = self.root / session_id / str(name)
        copy.stat()
        mirror(copy, new, None)
        native: dict[str, Any] = json.loads((copy / NATIVE).read_text("utf-8"))
        return native

    def keep(self, session_id: str, name: int, place: Path, native: Mapping[str, Any]) -> None:
        names, folder = self.names(session_id), self.root / session_id
        before = folder / str(names[0]) if names else None
        folder.mkdir(exist_ok=True, mode=0o700)
        new = folder / f".{secrets.token_hex(8)}"
        try:
            mirror(place, new, before)
            (new / NATIVE).write_text(json.dumps(dict(native)), "utf-8")
            _flush(new)
            os.replace(new, folder / str(name))
            _flush(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        for old in names:
            if old < name:  # at once for whoever restores it: what is there by its name is whole
                aside = folder / f".{secrets.token_hex(8)}"
                with suppress(OSError):
                    os.rename(folder / str(old), aside)
                    shutil.rmtree(aside, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have the file system that holds a folder write what it has not yet written."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), f"{folder} could not be synced")
    finally:
        os.close(fd)
