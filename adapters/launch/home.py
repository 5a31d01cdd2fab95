"""What a child finds around itself: the files below its HOME, and an environment with nothing in it by accident."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EINVAL, ENOTDIR
from pathlib import PurePosixPath
from typing import NamedTuple

from adapters.launch.warden import LaunchError

EXECUTABLES = PurePosixPath(".switchboard/bin")  # files below it may be run
TMP = "tmp"  # below HOME; short, because a socket's path may have no more than 107 bytes


class Bind(NamedTuple):
    """A file or a directory of the machine's under a path of a sandbox's or a container's."""

    source: str
    target: str
    writable: bool = False


def child_env(home: str, *pairs: Mapping[str, str], path: str | None = None) -> dict[str, str]:
    """The whole environment of a child: a handful of basics, then `pairs`; the later ones win."""
    env = {
        "PATH": path or os.environ.get("PATH", os.defpath),
        "HOME": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "TMPDIR": os.path.join(home, TMP),
    }
    for some in pairs:
        env |= some
    return env


def write_files(home: str, files: Mapping[str, str]) -> None:
    """Write `files` (paths relative to `home`) atomically, for the owner's eyes only. Makes HOME and its TMPDIR.

    No path can lead out of `home`: every directory is opened by its own name, and a symlink on the way is refused.
    """
    paths = {path: _checked(path) for path in files}
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
        with _opened(home) as root:
            with _folder(root, (TMP,)):
                pass
            for path, text in files.items():
                with _folder(root, paths[path].parts[:-1]) as folder:
                    _write(folder, paths[path], text)
    except OSError as exc:
        raise LaunchError(exc.errno or EINVAL, f"The files of {home!r} could not be written: {exc}", "files") from exc


def _checked(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\0" in path or path.endswith("/"):
        raise LaunchError(EINVAL, f"The path {path!r} is no file below HOME.", "files")
    return pure


@contextmanager
def _opened(path: str, *, within: int | None = None) -> Iterator[int]:
    follow = 0 if within is None else os.O_NOFOLLOW
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | follow, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _folder(root: int, parts: tuple[str, ...]) -> Iterator[int]:
    """The directory `parts` below `root`, made where it is missing."""
    if not parts:
        yield root
        return
    try:
        os.mkdir(parts[0], 0o700, dir_fd=root)
    except FileExistsError:
        pass
    try:
        with _opened(parts[0], within=root) as folder, _folder(folder, parts[1:]) as last:
            yield last
    except NotADirectoryError as exc:
        raise OSError(ENOTDIR, "not a directory, or a symlink", parts[0]) from exc


def _write(folder: int, path: PurePosixPath, text: str) -> None:
    mode = 0o700 if path.is_relative_to(EXECUTABLES) else 0o600
    new = f".{path.name[:200]}.{secrets.token_hex(4)}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
    try:
        with open(fd, "w", encoding="utf-8", newline="") as file:
            os.fchmod(fd, mode)
            file.write(text)
        os.replace(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(new, dir_fd=folder)
        raise
