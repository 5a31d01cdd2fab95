"""The session API's HTTP surface, one line an operation: what it is called, takes and answers. OpenAPI is made from it.

An endpoint is thin: who asks (access), for which session (Sessions.enter), with what (border), and the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from gateway.astray import astray
from gateway.deliver.destinations import Given
from gateway.idempotency import HEADER
from gateway.sessions import events, shapes
from gateway.sessions.access import Access, HideToken, Scope
from gateway.sessions.border import NO_STORE, answer, body_of, queried, refused
from gateway.sessions.socket import bridge
from gateway.sessions.views import Seen
from gateway.sessions.work import Sessions

PREFIX = "/v1"
ONE = "/sessions/{id}"
HOOKS = ONE + "/destinations"
HOOK = HOOKS + "/{destination}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as far as it was let in."""

    sessions: Sessions
    request: Request
    access: Access
    seen: Seen | None
    query: Any
    body: Any

    @property
    def session(self) -> Seen:
        assert self.seen is not None, "the operation is of one session"
        return self.seen

    @property
    def key(self) -> str | None:
        return self.request.headers.get(HEADER)


Run = Callable[[Call], Awaitable[BaseModel | Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope`: what a client token must be for. `errors`: statuses beside those every operation has."""

    method: str
    path: str
    name: str
    summary: str
    run: Run
    answers: type[BaseModel]
    status: int = HTTPStatus.OK
    scope: Scope = "read"
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    media_types: tuple[str, ...] = field(default=("application/json",))  # the others are streams of `answers`

    @property
    def of_one(self) -> bool:
        return "{id}" in self.path


async def _create(call: Call) -> BaseModel:
    return await call.sessions.create(call.access, call.body, call.key)


async def _list(call: Call) -> BaseModel:
    return await call.sessions.list(call.access, call.query)


async def _get(call: Call) -> BaseModel:
    return shapes.Session(**call.session.fields())


async def _result(call: Call) -> BaseModel:
    return await call.sessions.result(call.session, call.query.wait)


async def _send(call: Call) -> BaseModel:
    return await call.sessions.send(call.access, call.session, call.body, call.key)


async def _interrupt(call: Call) -> BaseModel:
    return await call.sessions.interrupt(call.session)


async def _cancel(call: Call) -> BaseModel:
    return await call.sessions.cancel(call.session)


async def _archive(call: Call) -> BaseModel:
    return await call.sessions.archive(call.session)


async def _token(call: Call) -> BaseModel:
    return call.sessions.token(call.access, call.session, call.body)


async def _events(call: Call) -> Response:
    sessions = call.sessions
    timeout = sessions.settings.send_timeout
    return await events.events(sessions.teller, call.access, call.session, call.request, call.query, timeout)


async def _log(call: Call) -> Response:
    return events.download(call.sessions.teller, call.session, call.request, call.query)


async def _destinations(call: Call) -> BaseModel:
    return await call.sessions.hooks.list(call.session.id)


async def _add_destination(call: Call) -> BaseModel:
    return await call.sessions.hooks.add(call.session.id, call.body)


async def _sign(call: Call) -> BaseModel:
    return await call.sessions.hooks.sign(call.session.id, call.request.path_params["destination"], call.body.secrets)


async def _remove(call: Call) -> Response:
    await call.sessions.hooks.remove(call.session.id, call.request.path_params["destination"])
    return Response(status_code=204, headers=NO_STORE)


JSON, NDJSON, SSE = "application/json", "application/x-ndjson", "text/event-stream"
OPERATIONS = (
    Operation(
        "POST", "/sessions", "createSession", "Begin a session with its first message.", _create, shapes.Created,
        status=HTTPStatus.CREATED, scope="caller", body=shapes.CreateSession, errors=(404, 422),
    ),
    Operation(
        "GET", "/sessions", "listSessions", "Your sessions, newest first.", _list, shapes.SessionPage,
        scope="caller", query=shapes.ListSessions,
    ),
    Operation("GET", ONE, "getSession", "A session.", _get, shapes.Session),
    Operation(
        "GET", ONE + "/result", "getResult", "What came of the last turn.", _result, shapes.Result, query=shapes.GetResult
    ),
    Operation(
        "POST", ONE + "/messages", "sendMessage", "Say something in a session.", _send, shapes.Sent,
        status=HTTPStatus.ACCEPTED, scope="write", body=shapes.SendMessage, errors=(409, 422),
    ),
    Operation(
        "POST", ONE + "/interrupt", "interruptSession", "End the turn that runs; the session goes on.", _interrupt,
        shapes.Interrupted, scope="write", errors=(409,),
    ),
    Operation("POST", ONE + "/cancel", "cancelSession", "End all work of a session.", _cancel, shapes.Canceled, scope="write"),
    Operation(
        "POST", ONE + "/archive", "archiveSession", "Make a session read-only for good.", _archive, shapes.Session,
        scope="write", errors=(409,),
    ),
    Operation(
        "GET", ONE + "/events", "readEvents", "Events: a page, or a stream.", _events, shapes.EventPage,
        query=shapes.ReadEvents, errors=(204,), media_types=(JSON, SSE, NDJSON),
    ),
    Operation(
        "GET", ONE + "/log", "downloadLog", "The log to its end, as JSON Lines.", _log, shapes.Event,
        query=shapes.ReadLog, media_types=(NDJSON,),
    ),
    Operation(
        "POST", ONE + "/tokens", "createToken", "A client token for a session, or a fresh one for an old one.", _token,
        shapes.Token, status=HTTPStatus.CREATED, scope="any", body=shapes.CreateToken,
    ),
    Operation(
        "GET", HOOKS, "listDestinations", "The webhooks of a session.", _destinations, shapes.Destinations, scope="caller"
    ),
    Operation(
        "POST", HOOKS, "addDestination", "One more webhook, told what comes from now on.", _add_destination,
        shapes.Destination, status=HTTPStatus.CREATED, scope="caller", body=Given, errors=(409,),
    ),
    Operation(
        "POST", HOOK + "/secrets", "setSecrets", "Sign with these secrets from now on.", _sign, shapes.Destination,
        scope="caller", body=shapes.SetSecrets,
    ),
    Operation(
        "DELETE", HOOK, "removeDestination", "Forget a webhook, and all that is still owed to it.", _remove, shapes.Nothing,
        status=HTTPStatus.NO_CONTENT, scope="caller",
    ),
)  # fmt: skip


def routes(sessions: Sessions) -> list[Mount]:
    app = Starlette(
        routes=[
            *(Route(op.path, _endpoint(op, sessions), methods=[op.method]) for op in OPERATIONS),
            WebSocketRoute(ONE + "/ws", lambda websocket: bridge(websocket, sessions)),
        ],
        middleware=[Middleware(HideToken), *_cors(sessions.settings.allowed_origins)],
        exception_handlers={HTTPException: astray},
    )
    return [Mount(PREFIX, app)]


def _endpoint(op: Operation, sessions: Sessions) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            found = await op.run(await _call(op, sessions, request))
        except Exception as exc:
            return refused(exc)
        return found if isinstance(found, Response) else answer(found, op.status)

    return endpoint


async def _call(op: Operation, sessions: Sessions, request: Request) -> Call:
    access = await sessions.gate.access(request)
    seen = None
    if op.of_one:
        seen = await sessions.enter(access, request.path_params["id"], op.scope)
    else:
        access.check(op.scope)
    query = queried(request, op.query or shapes.Query)
    body = await body_of(request, op.body, sessions.settings.max_body_bytes) if op.body else None
    return Call(sessions, request, access, seen, query, body)


def _cors(allowed: list[str]) -> list[Middleware]:
    """Pages of these origins may call from a browser; others are not told the answers."""
    if not allowed:
        return []
    headers = ["Authorization", "Content-Type", HEADER, "Last-Event-ID"]
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=allowed,
            allow_methods=sorted({op.method for op in OPERATIONS}),
            allow_headers=headers,
            expose_headers=["Retry-After"],
            max_age=600,
        )
    ]
