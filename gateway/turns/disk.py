"""How much disk a session's directories take: counted while a turn runs, and told when it is too much."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from gateway.turns.launching import Place

LOOK_SECONDS = 5.0
BLOCK = 512  # bytes, of st_blocks


async def outgrown(place: Place, megabytes: float) -> str:
    """Waits until they take more; answers what the owner should know."""
    most = megabytes * 2**20
    while not await anyio.to_thread.run_sync(_takes_more, place, most, abandon_on_cancel=True):  # noqa: ASYNC110
        await anyio.sleep(LOOK_SECONDS)
    return f"the session's files take more than {megabytes:g} MB (limit disk_mb)"


def _takes_more(place: Place, most: float) -> bool:
    """Counts no further than to `most`."""
    taken = 0
    for size in (size for folder in (place.home, place.work, place.hands) for size in _sizes(folder)):
        taken += size
        if taken > most:
            return True
    return False


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes on the disk of everything below, links not followed; what is gone meanwhile counts nothing."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                yield entry.stat(follow_symlinks=False).st_blocks * BLOCK
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
