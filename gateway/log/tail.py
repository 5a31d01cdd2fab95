"""The one way events leave the log: replay from a position, then live, without a gap or a repeat.

A subscriber is a cursor, never a queue: one that reads slowly costs nobody anything and misses nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from gateway.log.rows import Batch, Position
from gateway.log.store import Log

POLL_SECONDS = 1.0  # a wake-up is a hint; while all is quiet the log is asked so often
PAGE = 1000


async def tail(log: Log, session_id: str, after: Position = Position(0), *, live: bool = True) -> AsyncIterator[Batch]:  # noqa: B008
    """Batches after a position, in order. Ends only when `live` is false and the log is read to its end.

    Batches that are read while they are fresh are the very objects other readers get (`Batch.shared`).
    """
    async for burst in bursts(log, session_id, after, live=live):
        for batch in burst:
            yield batch


async def bursts(log: Log, session_id: str, after: Position, *, live: bool = True) -> AsyncIterator[list[Batch]]:
    """The same, as much at once as is there."""
    position, woken = after, True
    with log.hub.subscribe(session_id) as channel:
        while True:
            changed = channel.changed
            burst = channel.since(position)
            if not burst and not (woken and channel.ends_at(position)):
                burst = await _page(log, session_id, position)
            woken = True
            if burst:
                position = burst[-1].after
                yield burst
            elif not live:
                return
            else:
                woken = await _wait(changed)


async def _page(log: Log, session_id: str, position: Position) -> list[Batch]:
    rows = await log.read(session_id, position, PAGE)
    return [Batch(session_id, position, rows)] if rows else []


async def _wait(changed: anyio.Event) -> bool:
    """False if nothing was told for a while."""
    with anyio.move_on_after(POLL_SECONDS):
        await changed.wait()
        return True
    return False
