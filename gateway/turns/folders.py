"""A session's working directory as one that may hold traps: symlinks, pipes, folders without end.

Everything is opened relative to an open folder and without following symlinks, so that what an agent left there leads
nowhere else, also when it is changed while we look.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOTDIR, EPERM
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from adapters.launch.process import LaunchError
from gateway.files.names import numbered

MAX_DEPTH = 8
MAX_SEEN = 10_000  # files of one folder that are looked at
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def made(work: Path, name: str) -> Iterator[int]:
    """The folder `name` of a working directory, open; what stands in its place and is no folder is moved aside."""
    with opened(os.open(work, FOLDER)) as parent:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        try:
            handle = os.open(name, FOLDER, dir_fd=parent)
        except OSError:
            os.rename(name, f"{name}.{secrets.token_hex(4)}", src_dir_fd=parent, dst_dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            handle = os.open(name, FOLDER, dir_fd=parent)
        with opened(handle):
            yield handle


def start(work: Path, inside: str) -> None:
    """The folder `inside` of a working directory, made where it is missing. Raises LaunchError where it is none of it."""
    real = Path(os.path.realpath(work / inside))
    if not real.is_relative_to(os.path.realpath(work)):
        raise LaunchError(EPERM, f"The agent's work_dir {inside!r} leads out of its workspace by a symbolic link.", "cwd")
    try:
        real.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError) as exc:
        raise LaunchError(ENOTDIR, f"The agent's work_dir {inside!r} is no folder of its workspace.", "cwd") from exc


def create(folder: int, name: str) -> tuple[str, BinaryIO]:
    """A new file of that name, or of the next one like it that is free; answers the name it got."""
    number = 1
    while True:
        found = numbered(name, number)
        with suppress(FileExistsError):
            return found, os.fdopen(os.open(found, _NEW, 0o600, dir_fd=folder), "wb")
        number += 1


def files(work: Path, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """The regular files below the folder `name`: path within it, and the file, open as long as it is looked at."""
    with suppress(OSError), opened(os.open(work, FOLDER)) as parent, opened(os.open(name, FOLDER, dir_fd=parent)) as top:
        yield from islice(_files(top, "", MAX_DEPTH), MAX_SEEN)


def _files(folder: int, prefix: str, depth: int) -> Iterator[tuple[str, BinaryIO]]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in islice(entries, MAX_SEEN))
    for name in names:
        with suppress(OSError), opened(os.open(name, READ, dir_fd=folder)) as handle:  # gone, a symlink, not ours to read
            mode = os.fstat(handle).st_mode
            if stat.S_ISDIR(mode) and depth > 0:
                yield from _files(handle, f"{prefix}{name}/", depth - 1)
            elif stat.S_ISREG(mode):
                with os.fdopen(handle, "rb", closefd=False) as file:
                    yield prefix + name, file


@contextmanager
def opened(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)
