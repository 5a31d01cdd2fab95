"""A file that holds a key: made at first use, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from registry.rules import KeyFileUnsafe


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """The file's text. Of two processes that start at once, both read what the first one made.

    Raises KeyFileUnsafe when others may read the file, or when it is no readable, non-empty text.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(path, make(), replace=False)
    check_mode(path)
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as exc:
        raise KeyFileUnsafe(f"The key file '{path}' cannot be read: {exc}", "Restore it from a backup.") from exc
    if not text:
        raise KeyFileUnsafe(f"The key file '{path}' is empty.", "Restore it from a backup, or delete it to make a new key.")
    return text


def check_mode(path: Path) -> None:
    """A key others could read is refused, never mended silently: it may have been read already."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise KeyFileUnsafe(f"The key file '{path}' may be used by others (mode {mode:04o}).", f"Run: chmod 600 '{path}'")


def write(path: Path, text: str, *, replace: bool) -> None:
    """Write the whole file or nothing, mode 0600 from the first byte on. Without `replace` an existing file stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
