"""A session's directories as one compressed tar: what its runtime remembers (`home`) and what it works on (`work`).

Sockets, pipes and devices stay behind, and what is only a cache. A symlink that leads out is not unpacked.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gateway.turns.copies import Kept, walk
from gateway.turns.journals import replace


def pack(place: Path, out: BinaryIO) -> None:
    """Write what there is of a session's directory."""
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for kept in walk(place):
            with suppress(FileNotFoundError):
                _add(tar, kept)


def _add(tar: tarfile.TarFile, kept: Kept) -> None:
    member = tarfile.TarInfo(kept.path)
    member.mode, member.mtime = stat.S_IMODE(kept.status.st_mode), kept.status.st_mtime
    if kept.kind == "file":
        with kept.opened() as file:
            member.size = os.fstat(file.fileno()).st_size
            tar.addfile(member, file)
        return
    if kept.kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, kept.target
    else:
        member.type = tarfile.DIRTYPE
    tar.addfile(member)


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
