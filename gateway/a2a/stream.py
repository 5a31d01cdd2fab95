"""The two streaming methods: a task's events as SSE, from a position on, each frame with `id: <seq>`.

A frame is the JSON-RPC answer of the request around a result; the result is encoded once per event and shared by all
who read it. A batch goes out in one write. `Last-Event-ID` continues exactly after that event.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from gateway.a2a.tasks import Tasks
from gateway.a2a.translate import Json, artifact_id, final_updates, update_of
from gateway.log.rows import Batch, Position, Row
from gateway.log.store import Log
from gateway.log.tail import tail

_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


def _dumps(value: Any) -> bytes:
    """JSON on one line, also for clients that end lines wherever Unicode does."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        for end, escape in _LINE_ENDS.items():
            text = text.replace(end, escape)
    return text.encode()


class TaskStream:
    """One subscriber of one task."""

    def __init__(self, log: Log, tasks: Tasks, task_id: str, session_id: str, after: Position) -> None:
        self._log, self._tasks = log, tasks
        self.task_id, self.session_id, self.after = task_id, session_id, after
        self.first: Json | None = None  # the task, sent before its updates
        self.begun: set[str] = set()  # artifacts of which the reader has a piece already
        self.live = True  # False for a task that rests: who has read its end already must not wait for another

    async def sse(self, request_id: object) -> AsyncIterator[bytes]:
        """SSE frames, a batch of events at a time; ends with the task."""
        head, tail_ = b'data: {"jsonrpc":"2.0","id":%s,"result":' % _dumps(request_id), b"}\n\n"
        if self.first is not None:
            yield b"id: %d\n" % self.after.seq + head + _dumps({"task": self.first}) + tail_
        async for found in self._batches():
            frames = []
            for seq, last, result in found:
                # The events of one row are cut off from their id but for the last: who resumes gets the row whole.
                frames.append((b"id: %d\n" % seq if last else b"") + head + result + tail_)
            yield b"".join(frames)

    async def updates(self) -> AsyncIterator[Json]:
        """The same as JSON values, for the SDK's own transports."""
        if self.first is not None:
            yield {"task": self.first}
        async for found in self._batches():
            for _, _, result in found:
                yield json.loads(result)

    async def _batches(self) -> AsyncIterator[list[tuple[int, bool, bytes]]]:
        async for batch in tail(self._log, self.session_id, self.after, live=self.live):
            found: list[tuple[int, bool, bytes]] = []
            ended = False
            for row in batch.rows:
                if row.task_id != self.task_id or row.sub:
                    continue
                results = await self._results(batch, row)
                found += [(row.seq, index == len(results) - 1, result) for index, result in enumerate(results)]
                ended = row.type == "done" and json.loads(row.body).get("final", True)
                if ended:
                    break
            if found:
                yield found
            if ended:
                return

    async def _results(self, batch: Batch, row: Row) -> list[bytes]:
        if row.type == "chunk" and artifact_id(row.turn_id or "") not in self.begun:
            self.begun.add(artifact_id(row.turn_id or ""))
            return [_dumps(update_of(row, first=True))]
        shared: list[bytes] | None = batch.shared.get(row.seq)
        if shared is None:
            shared = batch.shared[row.seq] = await self._encoded(row)
        return shared

    async def _encoded(self, row: Row) -> list[bytes]:
        if row.type == "done":
            task = await self._tasks.at(self.task_id, row.seq)
            final = json.loads(row.body).get("final", True)
            return [_dumps(update) for update in final_updates(task, row.turn_id or "", final)]
        update = update_of(row)
        return [] if update is None else [_dumps(update)]
