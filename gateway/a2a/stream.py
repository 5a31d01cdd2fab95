"""The two streaming methods: a task's events as SSE, from a position on, each frame with `id: <seq>`.

A frame is what the transport wants (a2a.framing) around a result; the result is encoded once per event and shared by
all who read it. A batch goes out in one write. `Last-Event-ID` continues exactly after that event.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse

from gateway.a2a.framing import Framing, dumps
from gateway.a2a.tasks import Tasks
from gateway.a2a.translate import Json, artifact_id, final_updates, update_of
from gateway.log.rows import Batch, Position, Row
from gateway.log.store import Log
from gateway.log.tail import tail

PING_SECONDS = 15


class TaskStream:
    """One subscriber of one task."""

    def __init__(self, log: Log, tasks: Tasks, task_id: str, session_id: str, after: Position) -> None:
        self._log, self._tasks = log, tasks
        self.task_id, self.session_id, self.after = task_id, session_id, after
        self.first: Json | None = None  # the task, sent before its updates
        self.begun: set[str] = set()  # artifacts of which the reader has a piece already
        self.live = True  # False for a task that rests: who has read its end already must not wait for another
        self.over = False  # it has been told to its end

    def response(self, framing: Framing, send_timeout: float) -> EventSourceResponse:
        """The stream as an HTTP answer; who reads nothing for `send_timeout` seconds is cut off."""
        headers = {"Cache-Control": "no-store"}
        return EventSourceResponse(self.sse(framing), ping=PING_SECONDS, send_timeout=send_timeout, headers=headers)

    async def sse(self, framing: Framing) -> AsyncIterator[bytes]:
        """SSE frames, a batch of events at a time; ends with the task."""
        if self.first is not None:
            first = dumps({"task": self.first})
            first = framing.convert(first) if framing.convert else first
            yield b"id: %d\n" % self.after.seq + framing.head + first + framing.tail
        async for found in self._batches(framing):
            frames = []
            for seq, last, result in found:
                # The events of one row are cut off from their id but for the last: who resumes gets the row whole.
                frames.append((b"id: %d\n" % seq if last else b"") + framing.head + result + framing.tail)
            yield b"".join(frames)

    async def updates(self) -> AsyncIterator[Json]:
        """The same as JSON values, for the SDK's own transports."""
        if self.first is not None:
            yield {"task": self.first}
        async for found in self._batches():
            for _, _, result in found:
                yield json.loads(result)

    async def _batches(self, framing: Framing | None = None) -> AsyncIterator[list[tuple[int, bool, bytes]]]:
        if self.over:
            return
        async for batch in tail(self._log, self.session_id, self.after, live=self.live):
            found: list[tuple[int, bool, bytes]] = []
            ended = False
            for row in batch.rows:
                if row.task_id != self.task_id or row.sub:
                    continue
                results = [_converted(batch, framing, result) for result in await self._results(batch, row)]
                found += [(row.seq, index == len(results) - 1, result) for index, result in enumerate(results)]
                ended = ends(row, self.task_id)
                if ended:
                    break
            if found:
                yield found
            if ended:
                return

    async def _results(self, batch: Batch, row: Row) -> list[bytes]:
        if row.type == "chunk" and artifact_id(row.turn_id or "") not in self.begun:
            self.begun.add(artifact_id(row.turn_id or ""))
            return [dumps(update_of(row, first=True))]
        shared: list[bytes] | None = batch.shared.get(row.seq)
        if shared is None:
            shared = batch.shared[row.seq] = await self._encoded(row)
        return shared

    async def _encoded(self, row: Row) -> list[bytes]:
        if row.type == "done":
            task = await self._tasks.at(self.task_id, row.seq)
            final = json.loads(row.body).get("final", True)
            return [dumps(update) for update in final_updates(task, row.turn_id or "", final)]
        update = update_of(row)
        return [] if update is None else [dumps(update)]


def ends(row: Row, task_id: str) -> bool:
    """Whether a task's stream ends with an event."""
    return row.type == "done" and row.task_id == task_id and bool(json.loads(row.body).get("final", True))


def _converted(batch: Batch, framing: Framing | None, result: bytes) -> bytes:
    if framing is None or framing.convert is None:
        return result
    key = (framing.name, result)
    if key not in batch.shared:
        batch.shared[key] = framing.convert(result)
    converted: bytes = batch.shared[key]
    return converted
