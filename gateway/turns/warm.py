"""Processes that stay for their session's next message, each with the dialogue that speaks to it.

A two-way CLI whose turn has ended by itself is kept for `warm_seconds`, and what it says meanwhile is read. The session's next
turn goes on with it, unless another process has used the journal since; then, or when its time is over, it is let go.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import anyio.abc
import anyio.to_thread

from adapters.dialogue import Dialogue
from adapters.launch.container import Container
from adapters.launch.process import LaunchError, Process, kill_leftovers
from gateway.runtime_api.brain import Brain


@dataclass(slots=True)
class Resting:
    """`journal` is the name of the attempt that spoke to it last."""

    process: Process
    dialogue: Dialogue
    journal: str
    taken: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    released: anyio.Event = field(default_factory=anyio.Event)


class Warm:
    """One worker's. `run` it beside its turns."""

    def __init__(self, seconds: float, most: int, grace: float) -> None:
        self._seconds, self._most, self._grace = seconds, most, grace
        self._kept: dict[str, Resting] = {}  # by session, the longest kept first
        self._group: anyio.abc.TaskGroup | None = None

    @property
    def on(self) -> bool:
        return self._seconds > 0 and self._most > 0

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then all of them are let go."""
        async with anyio.create_task_group() as self._group:
            task_status.started()
            await anyio.sleep_forever()

    async def keep(self, session_id: str, kept: Resting) -> None:
        """Take a process over from a turn that has ended."""
        if self._group is None:
            return await let_go(kept.process, self._grace)
        self._kept[session_id] = kept
        self._group.start_soon(self._hold, session_id, kept)
        for oldest in list(self._kept.values())[: len(self._kept) - self._most]:
            oldest.scope.cancel()
        return None

    async def take(self, session_id: str, journal: str | None, tag: str | None) -> Resting | None:
        """The session's, if the attempt `journal` spoke to it last; when this returns no other one is there.

        `tag` is of the process that was kept last: another worker of this machine may have it still.
        """
        kept = await self._taken(session_id, journal)
        if kept is None and tag is not None:
            await anyio.to_thread.run_sync(kill_leftovers, tag)
        return kept

    async def _taken(self, session_id: str, journal: str | None) -> Resting | None:
        kept = self._kept.pop(session_id, None)
        if kept is None:
            return None
        kept.taken = kept.journal == journal and not kept.process.has_ended
        kept.scope.cancel()
        with anyio.CancelScope(shield=True):  # nobody else would end it
            await kept.released.wait()
        return kept if kept.taken else None

    async def _hold(self, session_id: str, kept: Resting) -> None:
        kept.scope.deadline = anyio.current_time() + self._seconds
        try:
            with kept.scope:
                while lines := await kept.process.lines():
                    for line in lines:
                        for answer in kept.dialogue.feed(line.data).outgoing:
                            await kept.process.write(answer)
                kept.taken = False  # it has ended
        finally:
            if self._kept.get(session_id) is kept:
                del self._kept[session_id]
            if not kept.taken:
                await let_go(kept.process, self._grace)
            kept.released.set()


async def let_go(process: Process | Container | Brain, grace: float) -> None:
    """Let a process go by itself, so that it can write its journal; after the grace it is made to, with all it started."""
    with anyio.CancelScope(shield=True):
        await process.close_stdin()
        with anyio.move_on_after(grace), suppress(LaunchError):
            await process.wait()
        await process.stop(grace=grace)
        await process.aclose()
