"""A session's directories as one compressed tar: what its runtime remembers (`home`) and what it works on (`work`).

Sockets, pipes and devices stay behind, and what is only a cache. A symlink that leads out is not unpacked.
"""

from __future__ import annotations

import secrets
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gateway.turns.copies import CACHES, PARTS
from gateway.turns.journals import replace


def pack(place: Path, out: BinaryIO) -> None:
    """Write what there is of a session's directory."""
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for part in PARTS:
            if (place / part).is_dir():
                tar.add(place / part, part, filter=_wanted)


def _wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return member if member.name not in CACHES and (member.isreg() or member.isdir() or member.issym()) else None


def unpack(file: BinaryIO, place: Path) -> None:
    """Put what was packed in place of what a session has, whole or not at all. Raises tarfile.TarError, OSError, EOFError."""
    new = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    new.mkdir(parents=True, mode=0o700)
    try:
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            tar.extractall(new, filter=_safe)
        replace(new, place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _safe(member: tarfile.TarInfo, directory: str) -> tarfile.TarInfo | None:
    """Nothing of another user, nothing that leads out of the directory."""
    check: Callable[[tarfile.TarInfo, str], tarfile.TarInfo | None] = tarfile.data_filter
    try:
        return check(member, directory)
    except tarfile.FilterError:
        return None
