"""The runtime API of one worker: an application on a Unix socket, which reaches the images' loopbacks by their sidecars.

    GET  /runtime/v1/turn        what the turn is to do
    GET  /runtime/v1/events      the session's log, and what is asked of the turn
    POST /runtime/v1/events      append events
    POST /runtime/v1/heartbeat   the turn is alive

The bearer token says which attempt of which turn speaks; `request.state.turn` is its `Brain`, for these and further routes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from gateway.auth.turn_tokens import TurnTokens
from gateway.clock import new_id
from gateway.errors import (
    Conflict,
    Crowded,
    Fenced,
    InvalidEvent,
    InvalidParams,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    SwitchboardError,
    TooLarge,
    Unavailable,
    UsageError,
    WrongMethod,
)
from gateway.log.store import Log
from gateway.runtime_api import reading
from gateway.runtime_api.brain import ENDS, Brain, superseded
from gateway.runtime_api.openapi import PREFIX
from gateway.runtime_api.shapes import Batch, Query
from gateway.wire import BadBody, checked_body

RETRY_SECONDS = 1
_TOLD = (UsageError, NotFound, Conflict, NotAllowed, Crowded)
_BEARER = "Send the header 'Authorization: Bearer $TURN_TOKEN'."
_SCHEMA = "See specs/runtime-contract.md; nothing of the request was taken."

log_ = structlog.get_logger("switchboard.runtime_api")
M = TypeVar("M", bound=BaseModel)
Handler = Callable[["Faces", Request, Brain], Awaitable[Response]]


class Faces:
    """Who speaks: the images at work here, by their turns."""

    def __init__(self, log: Log, tokens: TurnTokens, max_body_bytes: int) -> None:
        self.log, self.tokens, self.max_body_bytes = log, tokens, max_body_bytes
        self.brains: dict[str, Brain] = {}

    def brain(self, request: Request) -> Brain:
        """Raises NotAllowed for who is nobody, TurnSuperseded for who was somebody."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise NotAllowed("The turn token is missing.", _BEARER)
        holder = self.tokens.read(token.strip())
        brain = self.brains.get(holder.turn_id)
        if brain is None or brain.holder != holder:
            raise superseded()
        return brain


def application(faces: Faces, more: Sequence[BaseRoute] = ()) -> Starlette:
    """`more` are routes of others; they find the `Brain` in `request.state.turn`."""
    routes = [
        Route(f"{PREFIX}/turn", _endpoint(faces, _turn), methods=["GET"]),
        Route(f"{PREFIX}/events", _endpoint(faces, _read), methods=["GET"]),
        Route(f"{PREFIX}/events", _endpoint(faces, _append), methods=["POST"]),
        Route(f"{PREFIX}/heartbeat", _endpoint(faces, _beat), methods=["POST"]),
    ]
    handlers: Mapping[Any, ExceptionHandler] = {HTTPException: _astray, SwitchboardError: _refused, Exception: _refused}
    app = Starlette(routes=[*routes, *more], exception_handlers=handlers)
    return Signed(app, faces)  # type: ignore[return-value]


class Signed:
    """Lets nobody in who is not an image at work."""

    def __init__(self, app: Starlette, faces: Faces) -> None:
        self._app, self._faces = app, faces

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                brain = self._faces.brain(Request(scope))
            except SwitchboardError as exc:
                await refusal(exc)(scope, receive, send)
                return
            brain.came()
            scope.setdefault("state", {})["turn"] = brain
        await self._app(scope, receive, send)


def _endpoint(faces: Faces, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(faces, request, request.state.turn)

    return endpoint


async def _turn(_faces: Faces, _request: Request, brain: Brain) -> Response:
    return _answer(await brain.input())


async def _read(faces: Faces, request: Request, brain: Brain) -> Response:
    brain.check()
    return _answer(await reading.read(faces.log, brain, _query(request)))


async def _append(faces: Faces, request: Request, brain: Brain) -> Response:
    async with brain.room:
        batch = batch_of(await _body(faces, request))
        return _answer(await brain.post(batch.events))


async def _beat(_faces: Faces, _request: Request, brain: Brain) -> Response:
    brain.check()
    return _answer(brain.beat())


# -- what comes in


async def _body(faces: Faces, request: Request) -> bytes:
    try:
        return await checked_body(request, faces.max_body_bytes)
    except BadBody as exc:
        raise (TooLarge if exc.status == 413 else InvalidParams)(str(exc), "Send less at a time.") from exc


def batch_of(body: bytes) -> Batch:
    """Raises InvalidEvent for an event that cannot be taken, InvalidParams for what is no batch."""
    try:
        batch = Batch.model_validate_json(body)
    except ValidationError as exc:
        raise _invalid(exc) from exc
    seen: set[str] = set()
    ended = ""
    for index, event in enumerate(batch.events):
        if event.id in seen:
            raise _wrong(index, f"the id {event.id!r} is given twice")
        if ended:
            raise _wrong(index, f"it comes after the {ended} that ends the turn")
        seen.add(event.id)
        ended = event.type if event.type in ENDS else ""
    return batch


def _invalid(exc: ValidationError) -> InvalidParams:
    first = exc.errors(include_url=False, include_input=False)[0]
    where = first["loc"]
    if len(where) > 1 and where[0] == "events" and isinstance(where[1], int):
        field = ".".join(map(str, where[2:]))
        return _wrong(where[1], f"{field}: {first['msg']}" if field else first["msg"])
    return InvalidParams(f"The body cannot be taken: {first['msg']} at {'.'.join(map(str, where)) or 'its top'}.", _SCHEMA)


def _wrong(index: int, reason: str) -> InvalidEvent:
    return InvalidEvent(f"The event at index {index} cannot be taken: {reason}.", _SCHEMA, index, reason)


def _query(request: Request) -> Query:
    try:
        return Query.model_validate(dict(request.query_params))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidParams(f"The parameter {name!r} cannot be taken: {first['msg']}.", _SCHEMA) from exc


# -- what goes out


def _answer(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def refusal(exc: SwitchboardError) -> Response:
    """An error as its answer; what is not the image's to know is an incident."""
    exc = superseded() if isinstance(exc, Fenced) else exc
    if isinstance(exc, OutcomeUnknown):  # to an image the same: what it sends again under the same ids is done once
        exc = Unavailable(exc.message, exc.hint)
    headers = {"Retry-After": str(RETRY_SECONDS)} if isinstance(exc, Unavailable) else {}
    problem: Mapping[str, Any] = {"index": None, "reason": None, **exc.to_json()}
    if isinstance(exc, NotAllowed):
        headers, problem = {"WWW-Authenticate": "Bearer"}, {**problem, "hint": _BEARER}
    elif not isinstance(exc, _TOLD):
        incident = new_id("inc")
        log_.error("runtime_api_failed", incident=incident, exc_info=exc)
        problem = {**problem, "message": f"The gateway is not available now (incident {incident}).", "hint": "Try again."}
    return JSONResponse(problem, exc.codes.http, headers)


async def _astray(_request: Request, exc: Exception) -> Response:
    wrong_method = isinstance(exc, HTTPException) and exc.status_code == 405
    error = WrongMethod if wrong_method else NotFound
    return refusal(error("There is nothing here that takes this.", _SCHEMA))


async def _refused(_request: Request, exc: Exception) -> Response:
    return refusal(exc if isinstance(exc, SwitchboardError) else SwitchboardError(str(exc), "Try again."))
