"""The callers' HTTP surface: the JSON-RPC endpoint of every agent. Directory and cards are in discovery.

The SDK's dispatcher reads JSON-RPC and answers; the two streaming methods are answered by our own SSE, with ids. What
the dispatcher does not guard is checked here first: size, nesting, content type, the agent's name.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from a2a.server.context import ServerCallContext
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import a2a_pb2 as pb
from a2a.utils import constants
from a2a.utils.version_validator import validate_version
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.a2a.cards import Face
from gateway.a2a.handler import Handler
from gateway.a2a.stream import TaskStream
from gateway.settings import Settings
from gateway.wire import BadBody, checked_body

PING_SECONDS = 15
ANONYMOUS = "anonymous"


class Directory(Protocol):
    async def face(self, name: str) -> Face | None: ...


def routes(handler: Handler, directory: Directory, settings: Settings) -> list[Route]:
    face = CallersFace(handler, directory, settings)
    return [
        Route("/agents/{name}", face.call, methods=["POST"]),
        Route("/agents/{name}/", face.call, methods=["POST"]),
    ]


class CallersFace:
    def __init__(self, handler: Handler, directory: Directory, settings: Settings) -> None:
        self.directory, self.settings = directory, settings
        self.dispatcher = Dispatcher(handler, _ContextBuilder(), settings)

    async def call(self, request: Request) -> Response:
        face = await self._face(request)
        if face is None:
            return _rpc_error(404, -32001, f"Agent {request.path_params['name'][:80]!r} was not found.")
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _rpc_error(415, -32005, "The Content-Type must be application/json.")
        try:
            body = json.loads(await checked_body(request, self.settings.max_body_bytes))
        except BadBody as exc:
            return _rpc_error(exc.status, -32700 if exc.status == 400 else -32600, str(exc))
        except ValueError as exc:
            where = f" {exc}." if isinstance(exc, json.JSONDecodeError) else ""
            return _rpc_error(200, -32700, f"The body is no JSON.{where}")
        request._json = body  # Starlette's own cache, which the dispatcher reads
        request.state.face, request.state.principal = face, ANONYMOUS
        answer = await self.dispatcher.handle_requests(request)
        is_notification = isinstance(body, dict) and "id" not in body
        return Response(status_code=204) if is_notification else answer

    async def _face(self, request: Request) -> Face | None:
        face = await self.directory.face(request.path_params["name"])
        return face if face is not None and face.public else None


class Dispatcher(JsonRpcDispatcher):
    """The SDK's dispatcher with streams of our own."""

    def __init__(self, handler: Handler, builder: DefaultServerCallContextBuilder, settings: Settings) -> None:
        super().__init__(handler, builder)
        self._handler, self._settings = handler, settings

    @validate_version(constants.PROTOCOL_VERSION_1_0)
    async def _process_streaming_request(self, request_id: Any, request_obj: Any, context: ServerCallContext) -> Any:
        open_: Callable[[Any, ServerCallContext], Awaitable[TaskStream]] = self._handler.stream_task
        if isinstance(request_obj, pb.SendMessageRequest):
            open_ = self._handler.stream_message
        return await open_(request_obj, context)

    def _create_response(self, context: ServerCallContext, handler_result: Any) -> Response:
        if not isinstance(handler_result, TaskStream):
            return super()._create_response(context, handler_result)
        frames = handler_result.sse(context.state.get("request_id"))
        return EventSourceResponse(
            frames, ping=PING_SECONDS, send_timeout=self._settings.send_timeout, headers={"Cache-Control": "no-store"}
        )


class _ContextBuilder(DefaultServerCallContextBuilder):
    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        context.state["headers"].setdefault("a2a-version", request.query_params.get("A2A-Version", ""))
        context.state["face"], context.state["principal"] = request.state.face, request.state.principal
        return context


def _rpc_error(status: int, code: int, message: str) -> Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return Response(json.dumps(body), status, media_type="application/json")
