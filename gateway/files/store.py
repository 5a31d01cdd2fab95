"""The bytes of files, kept by their SHA-256: written and fsynced before anything in the database names them.

A transaction that fails leaves bytes nobody names. `sweep` removes those, once they are old enough that no transaction
can be about to name them. Writing a content again makes it new; a lock keeps that and the sweep apart, also between
processes. Whoever keeps files elsewhere than on a disk offers the same methods (`Store`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from gateway.disk import sync_folder
from gateway.errors import Unavailable

PIECE = 256 * 1024  # bytes held in memory at a time
BATCH = 500  # contents looked up together by a sweep


@dataclass(frozen=True, slots=True)
class Content:
    sha256: str
    size: int


class Upload(Protocol):
    """Bytes on their way into the store; nothing is kept before `keep`."""

    size: int

    def write(self, piece: bytes) -> None: ...
    def keep(self) -> Content: ...
    def drop(self) -> None: ...


class Store(Protocol):
    """Methods block: they are for threads. Raises Unavailable when bytes cannot be written or are not there."""

    def begin(self) -> Upload: ...
    def open(self, sha256: str) -> BinaryIO: ...
    def sweep(self, known: Callable[[list[str]], set[str]], older_than: float) -> int: ...


def put(store: Store, pieces: Iterable[bytes]) -> Content:
    """Keep all of `pieces`, or nothing."""
    upload = store.begin()
    try:
        for piece in pieces:
            upload.write(piece)
        return upload.keep()
    except BaseException:
        upload.drop()
        raise


def pieces_of(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` up to `end`, a piece at a time."""
    file.seek(start)
    while start < end and (piece := file.read(min(PIECE, end - start))):
        start += len(piece)
        yield piece


class DiskUpload:
    def __init__(self, disk: Disk) -> None:
        self.size = 0
        self._disk, self._hash = disk, hashlib.sha256()
        self._path = disk.root / "new" / secrets.token_hex(12)
        with _disk_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, piece: bytes) -> None:
        with _disk_errors():
            self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def keep(self) -> Content:
        content = Content(self._hash.hexdigest(), self.size)
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            path = self._disk.path(content.sha256)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._disk.locked(fcntl.LOCK_SH):
                os.replace(self._path, path)
            sync_folder(path.parent)
            sync_folder(self._disk.root)
        return content

    def drop(self) -> None:
        with _disk_errors():
            self._file.close()
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Disk:
    """A store in a folder, which any number of gateways on one machine, or on one network disk, may share."""

    root: Path

    def begin(self) -> Upload:
        return DiskUpload(self)

    def open(self, sha256: str) -> BinaryIO:
        with _disk_errors():
            return self.path(sha256).open("rb")

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def sweep(self, known: Callable[[list[str]], set[str]], older_than: float) -> int:
        """Remove contents that `known` does not know and nobody has written for `older_than` seconds; answers how many."""
        if not self.root.exists():
            return 0
        before, found, count = time.time() - older_than, list[Path](), 0
        for path in (self.root / "new").glob("*"):  # uploads that broke off
            if _written(path) < before:
                path.unlink(missing_ok=True)
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            found.append(path)
            if len(found) >= BATCH:
                count, found = count + self._sweep(found, known, before), []
        return count + self._sweep(found, known, before)

    def _sweep(self, found: list[Path], known: Callable[[list[str]], set[str]], before: float) -> int:
        old = [path for path in found if _written(path) < before]
        kept = known([path.name for path in old]) if old else set()
        with _disk_errors(), self.locked(fcntl.LOCK_EX):
            gone = [path for path in old if path.name not in kept and _written(path) < before]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    @contextmanager
    def locked(self, how: int) -> Iterator[None]:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(f"The store of files failed: {exc}", "Look at its disk and try again.") from exc
