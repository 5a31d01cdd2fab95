"""Who is alive on one machine: each worker holds the lock of a file, and the kernel lets go of it with the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class Presence:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: dict[str, int] = {}

    def appear(self, name: str) -> None:
        """Be alive under a name until `leave`, or until this process is no more."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._folder / f".{name}"
        fd = os.open(new, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        new.rename(self._folder / name)  # nobody ever sees it without its lock
        self._fds[name] = fd

    def leave(self) -> None:
        for name, fd in self._fds.items():
            (self._folder / name).unlink(missing_ok=True)
            os.close(fd)
        self._fds.clear()

    def alive(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if self._is_alive(name)}

    def _is_alive(self, name: str) -> bool:
        if name in self._fds:
            return True
        try:
            fd = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            with suppress(OSError):
                (self._folder / name).unlink()
            return False
        finally:
            os.close(fd)
