"""The WebSocket bridge of a session: its log from a cursor on, and messages, steering, interrupts on the same connection.

    to the client    {"type": "events", "events": [...]}             in order, as many at once as there are
                     {"type": "live", "seq": 7}                      what came before the connection has been told
                     {"type": "answer", "id": "c1", "result": {}}    to the command of that id, as its operation answers
                     {"type": "error", "id": "c1", "code": "", "message": "", "hint": ""}
                     {"type": "pong", "id": "c1"}
    from the client  {"type": "message" | "steer", "id": "c1", "input": "..."}, {"type": "interrupt" | "cancel" | "ping"}

Who reads nothing for `send_timeout` seconds is cut off, and may come again with the last `seq` it saw. Commands are done one
after the other. A page of a foreign origin may not connect: a browser would let it, unlike with HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import anyio
from pydantic import BaseModel, Field, RootModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.errors import InvalidParams, OutOfScope, TooLarge
from gateway.log.rows import Batch, Position
from gateway.log.tail import tail
from gateway.sessions.access import Access
from gateway.sessions.border import parsed, queried, read_json, refused, told
from gateway.sessions.events import cursor
from gateway.sessions.frames import Filter, Teller, closes
from gateway.sessions.shapes import Problem, ReadLog, SendMessage, Shape
from gateway.sessions.views import Seen
from gateway.sessions.work import Sessions
from gateway.settings import Settings
from gateway.wire import BadBody, check_shape

FRAME_BYTES = 256 * 1024  # of events in one frame; an event that is larger has one of its own
OVER, EXPIRED, SLOW = 1000, 4401, 4408  # close codes

Id = Annotated[str, Field(max_length=100)]


class _Message(SendMessage):
    type: Literal["message"]
    id: Id | None = None


class _Steer(SendMessage):
    type: Literal["steer"]
    id: Id | None = None
    mode: Literal["steer"] = "steer"


class _Plain(Shape):
    type: Literal["interrupt", "cancel", "ping"]
    id: Id | None = None


class _Answer(BaseModel):
    type: Literal["answer"] = "answer"
    id: str | None
    result: dict[str, Any]


class _Error(Problem):
    type: Literal["error"] = "error"
    id: str | None


class _Pong(BaseModel):
    type: Literal["pong"] = "pong"
    id: str | None


class Command(RootModel[Annotated[_Message | _Steer | _Plain, Field(discriminator="type")]]):
    pass


async def bridge(websocket: WebSocket, sessions: Sessions) -> None:
    """One connection, from its handshake to its end. What is refused is refused as by HTTP."""
    try:
        check_origin(websocket, sessions.settings)
        access = await sessions.gate.access(websocket)
        seen = await sessions.enter(access, websocket.path_params["id"], "read")
        asked = queried(websocket, ReadLog)
        after = cursor(websocket, seen, asked.after)
    except Exception as exc:
        await websocket.send_denial_response(refused(exc))
        return
    await websocket.accept()
    await _Bridge(websocket, sessions, access, seen).run(after, Filter.of(asked))


def _check(text: str) -> None:
    try:
        check_shape(text.encode())
    except BadBody as exc:
        raise (TooLarge if exc.status == 413 else InvalidParams)(str(exc), "Send less.") from exc


def check_origin(websocket: WebSocket, settings: Settings) -> None:
    """Raises OutOfScope. Who sends no Origin is no page."""
    origin = websocket.headers.get("origin")
    allowed = settings.allowed_origins
    if origin is None or "*" in allowed or origin in (*allowed, settings.url):
        return
    if origin.partition("://")[2] != websocket.headers.get("host"):
        raise OutOfScope(f"Pages of {origin[:200]!r} may not connect.", "An operator allows them by SWITCHBOARD_CORS_ORIGINS.")


def frames(teller: Teller, batch: Batch, wanted: Filter) -> list[str]:
    """A batch as frames, made once for all who want the same."""
    key = ("websocket", wanted, teller.age)
    made: list[str] | None = batch.whole.get(key)
    if made is None:
        events = (event.json for event in teller.told(batch) if wanted.takes(event))
        made = batch.whole[key] = [f'{{"type":"events","events":[{b",".join(some).decode()}]}}' for some in _grouped(events)]
    return made


def _grouped(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for event in events:
        if group and size + len(event) > FRAME_BYTES:
            yield group
            group, size = [], 0
        group.append(event)
        size += len(event)
    if group:
        yield group


class _Bridge:
    def __init__(self, websocket: WebSocket, sessions: Sessions, access: Access, seen: Seen) -> None:
        self._websocket, self._sessions, self._access, self._seen = websocket, sessions, access, seen

    async def run(self, after: int, wanted: Filter) -> None:
        code = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, group.cancel_scope)
                code = await self._tell(after, wanted)
                group.cancel_scope.cancel()
            if code is not None:
                await self._close(code)
        except* (WebSocketDisconnect, OSError):
            pass

    # -- to the client

    async def _tell(self, after: int, wanted: Filter) -> int:
        """Everything from the cursor on; the code to close with."""
        try:
            await self._say_live(-1, after)
            async for batch in self._access.while_it_holds(tail(self._sessions.log, self._seen.id, Position(after))):
                for frame in frames(self._sessions.teller, batch, wanted):
                    await self._send(frame)
                await self._say_live(batch.before.seq, batch.after.seq)
                if closes(batch):
                    return OVER
        except TimeoutError:
            return SLOW
        return EXPIRED

    async def _say_live(self, before: int, after: int) -> None:
        if before < self._seen.seq <= after:
            await self._send(f'{{"type":"live","seq":{after}}}')

    async def _say(self, model: BaseModel) -> None:
        await self._send(model.model_dump_json())

    async def _send(self, text: str) -> None:
        """Raises TimeoutError when the client does not read."""
        with anyio.fail_after(self._sessions.settings.send_timeout):
            await self._websocket.send_text(text)

    async def _close(self, code: int) -> None:
        with anyio.move_on_after(self._sessions.settings.send_timeout):
            await self._websocket.close(code)

    # -- from the client

    async def _listen(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._obey(await self._websocket.receive_text())
        except (WebSocketDisconnect, TimeoutError, KeyError):  # KeyError: a binary frame
            scope.cancel()

    async def _obey(self, text: str) -> None:
        id = None
        try:
            _check(text)
            value = read_json(text)
            id = value.get("id") if isinstance(value, dict) else None
            await self._say(await self._done(parsed(Command, value).root))
        except (WebSocketDisconnect, TimeoutError):
            raise
        except Exception as exc:
            await self._say(_Error(id=id if isinstance(id, str) else None, **told(exc)))

    async def _done(self, command: _Message | _Steer | _Plain) -> BaseModel:
        if command.type == "ping":
            return _Pong(id=command.id)
        self._access.check_time()
        seen = await self._sessions.enter(self._access, self._seen.id, "write")
        return _Answer(id=command.id, result=(await self._result(command, seen)).model_dump())

    async def _result(self, command: _Message | _Steer | _Plain, seen: Seen) -> BaseModel:
        match command:
            case _Plain(type="cancel"):
                return await self._sessions.cancel(seen)
            case _Plain():
                return await self._sessions.interrupt(seen)
            case _:
                return await self._sessions.send(self._access, seen, command, None)
