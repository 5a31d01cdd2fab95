"""Watch processes that are not our children, by pidfd: a zombie nobody collects is as dead as any other."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def watched(pids: Iterable[int]) -> Iterator[dict[int, int]]:
    """The living processes `pids` as {pid: pidfd}. Raises for one that is not there."""
    with ExitStack() as stack:
        fds = {pid: os.pidfd_open(pid) for pid in pids}
        for fd in fds.values():
            stack.callback(os.close, fd)
        yield fds


def survivors(fds: dict[int, int], *, timeout: float = 10) -> list[int]:
    """Those that are still alive after `timeout` seconds each."""
    return [pid for pid, fd in fds.items() if not select.select([fd], [], [], timeout)[0]]
