"""What an image does in a scene, as the kit sees it: every request it makes to the runtime API, and how each attempt ended.

The kit stands between the image and the API of a real gateway, so that it can answer in the gateway's place, lose an answer
that was given, and end the image at a moment it chooses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp

from adapters.launch.container import Container
from adapters.launch.lines import Line
from adapters.launch.process import Exited
from gateway.errors import NotAllowed
from gateway.runtime_api.brain import Brain, superseded
from gateway.runtime_api.mcp import CALL_ID
from gateway.runtime_api.openapi import PREFIX
from gateway.runtime_api.server import RuntimeApi

Json = dict[str, Any]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass
class Call:
    """A request of the image's. `status` 0: it got no answer."""

    attempt: int
    method: str
    path: str  # below /runtime/v1
    body: Any
    at: float = field(default_factory=time.monotonic)
    status: int = 0
    said: Any = None
    injected: bool = False  # the answer was the kit's, not the gateway's

    @property
    def events(self) -> list[Json]:
        found = self.body.get("events") if isinstance(self.body, dict) and self.posts else None
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def posts(self) -> bool:
        return (self.method, self.path) == ("POST", "/events")

    @property
    def acts(self) -> bool:
        """Whether it has the sandbox do something, in either way."""
        return (self.method, self.path) == ("POST", "/sandbox/call") or self.rpc == "tools/call"

    @property
    def rpc(self) -> str:
        """The method of a request by MCP; "" for what is none."""
        return str(self.body.get("method", "")) if self.path == "/mcp" and isinstance(self.body, dict) else ""

    @property
    def kind(self) -> tuple[str, str, str]:
        """Requests alike."""
        return self.method, self.path, self.rpc

    @property
    def named(self) -> bool:
        """Whether a call of the sandbox has an id of the image's own; by HTTP it must."""
        params = self.body.get("params") if self.rpc else None
        meta = params.get("_meta") if isinstance(params, dict) else None
        return not self.rpc or (isinstance(meta, dict) and CALL_ID in meta)


class Left(NamedTuple):
    """How an attempt ended. `forced`: it was stopped, by the gateway or by the kit."""

    attempt: int
    code: int | None
    forced: bool
    at: float


PassOn = Callable[[], Awaitable[Answer]]
Rule = Callable[["Seen", Call, PassOn], Awaitable[Answer | None]]  # None: the connection breaks


async def as_it_is(_seen: Seen, _call: Call, pass_on: PassOn) -> Answer | None:
    return await pass_on()


@dataclass
class Seen:
    """A scene's. `effects`: what its sandbox did, by call_id: a command for each time it was run."""

    rule: Rule = as_it_is
    calls: list[Call] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    effects: dict[str, str] = field(default_factory=dict)
    body: Body | None = None
    brain: Brain | None = None
    started_at: float = 0.0
    printed: list[str] = field(default_factory=list)  # the end of each attempt's stderr
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, true: Callable[[], object], seconds: float) -> bool:
        """Whether it came true in time."""
        with anyio.move_on_after(seconds):
            while not true():
                await self._changed.wait()
        return bool(true())

    @property
    def posts(self) -> list[Call]:
        return [call for call in self.calls if call.posts]

    @property
    def posted(self) -> list[Json]:
        """Every event it posted, taken or not."""
        return [event for call in self.posts for event in call.events]

    def kinds(self) -> list[str]:
        return [str(event.get("type")) for event in self.posted]

    async def kill(self) -> None:
        """As a machine that dies: nobody is told before."""
        if self.body is not None:
            await self.body.kill()

    def supersede(self) -> None:
        """From now on this attempt is told that another has the turn."""
        if self.brain is not None:
            self.brain.end(superseded())


class Body:
    """An image's container, whose end is written down."""

    def __init__(self, container: Container, seen: Seen, attempt: int) -> None:
        self._container, self._seen, self._attempt = container, seen, attempt
        self._forced = self._noted = False

    async def lines(self) -> list[Line]:
        return await self._container.lines()

    async def wait(self) -> Exited:
        exited = await self._container.wait()
        self._note(exited)
        return exited

    async def stop(self, *, grace: float = 2.0) -> Exited:
        self._forced = self._forced or not self._noted
        exited = await self._container.stop(grace=grace)
        self._note(exited)
        return exited

    async def kill(self) -> None:
        self._forced = True
        await self._container.kill()

    async def aclose(self) -> None:
        await self._container.aclose()

    def stderr_tail(self) -> str:
        return self._container.stderr_tail()

    def _note(self, exited: Exited) -> None:
        if not self._noted:
            self._noted = True
            self._seen.left.append(Left(self._attempt, exited.code, self._forced, time.monotonic()))
            self._seen.printed.append(self._container.stderr_tail())
            self._seen.change()


class Watch:
    """Stands before a runtime API. `scenes`: by session."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self.scenes: dict[str, Seen] = {}
        self._turns: dict[str, Seen] = {}
        api.front, api.embody = self._before, self._embodied

    def _before(self, app: ASGIApp) -> ASGIApp:
        self._app = app
        return self

    def _embodied(self, brain: Brain, container: Container) -> Body:
        seen = self.scenes[brain.turn.session_id]
        self._turns[brain.turn.id] = seen
        seen.body, seen.brain = Body(container, seen, brain.turn.attempt), brain
        seen.started_at = time.monotonic()
        seen.change()
        return seen.body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _read(receive)
        found = self._found(scope)
        if found is None:
            await self._app(scope, _replayed(body), send)
            return
        seen, attempt = found
        call = Call(attempt, scope["method"], scope["path"].removeprefix(PREFIX), _parsed(body))
        seen.calls.append(call)

        async def pass_on() -> Answer:
            answer = await _asked(self._app, scope, body)
            call.status, call.said = answer.status, answer.json()
            return answer

        answer = await seen.rule(seen, call, pass_on)
        if answer is not None and call.status == 0:
            call.status, call.said, call.injected = answer.status, answer.json(), True
        seen.change()
        await _answer(send, answer)

    def _found(self, scope: Any) -> tuple[Seen, int] | None:
        token = Headers(scope=scope).get("authorization", "").partition(" ")[2]
        try:
            holder = self._api.faces.tokens.read(token.strip())
        except NotAllowed:
            return None
        seen = self._turns.get(holder.turn_id)
        if seen is None:  # it was started, and asks before its start was noted
            brain = self._api.faces.brains.get(holder.turn_id)
            seen = self.scenes.get(brain.turn.session_id) if brain else None
        return None if seen is None else (seen, holder.attempt)


def problem(code: str, message: str) -> Json:
    return {"code": code, "message": message, "hint": "", "index": None, "reason": None}


def answer_of(status: int, said: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, [(b"content-type", b"application/json"), *headers], json.dumps(said).encode())


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes) -> Callable[[], Awaitable[Json]]:
    sent = False

    async def receive() -> Json:
        nonlocal sent
        if sent:
            await anyio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _asked(app: Any, scope: Any, body: bytes) -> Answer:
    status, headers, said = 500, list[tuple[bytes, bytes]](), b""

    async def send(message: Any) -> None:
        nonlocal status, headers, said
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", ()))
        else:
            said += message.get("body", b"")

    await app(scope, _replayed(body), send)
    return Answer(status, headers, said)


async def _answer(send: Any, answer: Answer | None) -> None:
    if answer is None:  # more is promised than comes: the connection breaks
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return
    headers = [(name, value) for name, value in answer.headers if name.lower() != b"content-length"]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
