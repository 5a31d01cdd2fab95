"""The two streaming methods: a task's events as SSE, from a position on, each frame with `id: <seq>`.

A frame is what the transport wants (a2a.framing) around a result; the result is encoded once per event and shared by
all who read it. A batch goes out in one write. `Last-Event-ID` continues exactly after that event; where that is in the
archive already, by the whole task, which has ended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from sse_starlette.sse import EventSourceResponse

from gateway.a2a.framing import PLAIN, Framing, dumps
from gateway.a2a.tasks import Found, Tasks
from gateway.a2a.translate import Json, artifact_id, begins_anew, depends_on_tools, direct_message, final_updates, update_of
from gateway.log.rows import Batch, Position, Row
from gateway.log.snapshot import SNAPSHOT
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.turns.queue import Accepted

PING_SECONDS = 15


@dataclass(slots=True)
class Told:
    """What a batch tells about a task; made once for all who read it in the same form from the same place."""

    begun: set[str]  # artifacts of which its readers have a piece after it
    results: list[bytes] = field(default_factory=list)
    between: list[bytes] = field(default_factory=list)  # what stands between a reader's own heads of the frames
    ended: bool = False


class TaskStream:
    """One subscriber of one task."""

    def __init__(self, log: Log, tasks: Tasks, task_id: str, session_id: str, after: Position) -> None:
        self._log, self._tasks = log, tasks
        self.task_id, self.session_id, self.after = task_id, session_id, after
        self.first: Json | None = None  # the task, sent before its updates
        self.begun: set[str] = set()  # artifacts of which the reader has a piece already
        self.undecided: Accepted | None = None  # a message that may be answered by one alone, without a task
        self.live = True  # False for a task that rests: who has read its end already must not wait for another
        self.over = False  # it has been told to its end
        self.tools = False  # the reader activated the extension of tool events

    def response(self, framing: Framing, send_timeout: float) -> EventSourceResponse:
        """The stream as an HTTP answer; who reads nothing for `send_timeout` seconds is cut off."""
        headers = {"Cache-Control": "no-store"}
        return EventSourceResponse(self.sse(framing), ping=PING_SECONDS, send_timeout=send_timeout, headers=headers)

    async def sse(self, framing: Framing) -> AsyncIterator[bytes]:
        """SSE frames, a batch of events at a time; ends with the task."""
        opening, seq = await self._opening()
        if opening is not None:
            first = dumps(opening)
            first = framing.convert(first) if framing.convert else first
            yield b"id: %d\n" % seq + framing.head + first + framing.tail
            if "message" in opening:
                return
        async for told in self._told(framing):
            yield framing.head.join(told.between)

    async def updates(self) -> AsyncIterator[Json]:
        """The same as JSON values, for the SDK's own transports."""
        opening, _ = await self._opening()
        if opening is not None:
            yield opening
            if "message" in opening:
                return
        async for told in self._told(PLAIN):
            for result in told.results:
                yield json.loads(result)

    async def _opening(self) -> tuple[Json | None, int]:
        """What comes first, and its id: the task, or a message that is all there will be."""
        reply = await reply_to(self._log, self.undecided) if self.undecided else None
        if reply is not None:
            return {"message": direct_message(reply)}, reply.seq
        return (None if self.first is None else {"task": self.first}), self.after.seq

    async def _told(self, framing: Framing) -> AsyncIterator[Told]:
        if self.over:
            return
        async for batch in tail(self._log, self.session_id, self.after, live=self.live):
            key = (self.task_id, framing.name, self.tools, frozenset(self.begun), self._tasks.files.slot)
            told: Told | None = batch.whole.get(key)
            if told is None:
                told = batch.whole[key] = await self._tell(batch, framing)
            self.begun = set(told.begun)
            if told.results:
                yield told
            if told.ended:
                return

    async def _tell(self, batch: Batch, framing: Framing) -> Told:
        """What a batch tells to those who read this task in this form, and have the same pieces already."""
        told, frames = Told(begun=set(self.begun)), []
        for row in batch.rows:
            kept = await self._kept(batch, row) if row.type == SNAPSHOT else None
            if kept is None and (row.task_id != self.task_id or row.sub):
                continue
            made = [dumps({"task": kept.task})] if kept else await self._results(batch, row, told.begun)
            results, seq = [_converted(batch, framing, result) for result in made], kept.position.seq if kept else row.seq
            frames += [(seq if index == len(results) else None, result) for index, result in enumerate(results, 1)]
            told.results += results
            told.ended = kept is not None or ends(row, self.task_id)
            if told.ended:
                break
        told.between = _between(frames, framing)
        return told

    async def _kept(self, batch: Batch, row: Row) -> Found | None:
        """The task, where a snapshot stands for events of it that the reader does not have."""
        kept = await self._tasks.kept(self.task_id, row.seq)
        return kept if kept and batch.before < kept.position else None

    async def _results(self, batch: Batch, row: Row, begun: set[str]) -> list[bytes]:
        if begins_anew(row.type, row.body):
            begun.discard(artifact_id(row.turn_id or ""))
        if row.type == "chunk" and artifact_id(row.turn_id or "") not in begun:
            begun.add(artifact_id(row.turn_id or ""))
            return [dumps(update_of(row, first=True))]
        key = (row.seq, self.tools and depends_on_tools(row), row.type == "artifact" and self._tasks.files.slot)
        shared: list[bytes] | None = batch.shared.get(key)
        if shared is None:
            shared = batch.shared[key] = await self._encoded(row)
        return shared

    async def _encoded(self, row: Row) -> list[bytes]:
        if row.type == "done":
            task = await self._tasks.at(self.task_id, row.seq)
            final = json.loads(row.body).get("final", True)
            return [dumps(update) for update in final_updates(task, row.turn_id or "", final)]
        update = update_of(row, tools=self.tools)
        return [] if update is None else [dumps(await self._tasks.files.update(update))]


def ends(row: Row, task_id: str) -> bool:
    """Whether a task's stream ends with an event."""
    return row.type == "done" and row.task_id == task_id and bool(json.loads(row.body).get("final", True))


async def reply_to(log: Log, accepted: Accepted) -> Row | None:
    """The answer by a message alone; None as soon as the agent does anything else, and once it is archived."""
    async for batch in tail(log, accepted.session_id, Position(accepted.seq), leaves=True):
        for row in batch.rows:
            if row.type == SNAPSHOT:
                return None
            if row.task_id == accepted.task_id and row.sub == 0 and row.type != "turn_started":
                return row if direct_message(row) else None
    return None


def _between(frames: Sequence[tuple[int | None, bytes]], framing: Framing) -> list[bytes]:
    """The frames, cut where each one's head belongs.

    The events of one row are cut off from their id but for the last: who resumes gets the row whole.
    """
    pieces, before = [], b""
    for seq, result in frames:
        pieces.append(before + (b"" if seq is None else b"id: %d\n" % seq))
        before = result + framing.tail
    return [*pieces, before]


def _converted(batch: Batch, framing: Framing, result: bytes) -> bytes:
    if framing.convert is None:
        return result
    key = (framing.name, result)
    if key not in batch.shared:
        batch.shared[key] = framing.convert(result)
    converted: bytes = batch.shared[key]
    return converted
