"""HTTP+JSON beside JSON-RPC on `/agents/{name}`: 1.0 (also under the agent's name as tenant), and 0.3 under `/v1`.

The SDK's dispatchers parse and answer; the two streaming methods are answered by our own SSE, a bare StreamResponse a
frame. Errors are google.rpc.Status, as the spec has it (section 11.6).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from a2a.compat.v0_3 import a2a_v0_3_pb2 as pb03
from a2a.compat.v0_3 import conversions, proto_utils
from a2a.compat.v0_3 import types as types03
from a2a.compat.v0_3.rest_adapter import REST03Adapter
from a2a.server.context import ServerCallContext
from a2a.server.routes.rest_dispatcher import RestDispatcher
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError, InvalidParamsError
from google.protobuf.json_format import Parse  # type: ignore[import-untyped]  # has no stubs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.a2a.admission import Admission, ContextBuilder, Refused
from gateway.a2a.framing import rest
from gateway.a2a.handler import Handler
from gateway.a2a.handler03 import Handler03, bad_params
from gateway.a2a.stream import TaskStream
from gateway.a2a.tasks import check_state
from gateway.a2a.versions import HEADER, Version, require, spoken
from gateway.errors import UsageError
from gateway.settings import Settings

MEDIA_TYPES = ("application/json", "application/a2a+json")
Endpoint = Callable[[Request], Awaitable[Any]]
Table = dict[tuple[str, str], Endpoint]


def rest_routes(handler: Handler, admission: Admission, settings: Settings) -> list[Route]:
    v10, v03 = Rest10(handler, settings).table(), Rest03(handler, settings).routes()
    prefixes: list[tuple[str, Table, Version]] = [
        ("/agents/{name}", v03, "0.3"),
        ("/agents/{name}", v10, "1.0"),
        ("/agents/{name}/{tenant}", v10, "1.0"),
    ]
    return [
        Route(prefix + path, _guarded(endpoint, version, admission), methods=[verb])
        for prefix, table, version in prefixes
        for (path, verb), endpoint in table.items()
    ]


def _guarded(endpoint: Endpoint, version: Version, admission: Admission) -> Endpoint:
    async def call(request: Request) -> Response:
        try:
            await admission.admit(request, *MEDIA_TYPES)
            request.state.version = spoken(request.headers.get(HEADER), request.query_params.get(HEADER))
            require(version, request.state.version, f"The path {request.url.path[:200]}")
            answer: Response = await endpoint(request)
            answer.headers.update(request.state.extensions)
        except Refused as exc:
            return exc.rest(version)
        except A2AError as exc:
            answer = Refused.of(exc).rest(version)
        for refused in request.state.refused:
            return Refused.by(refused).rest(version)
        return answer

    return call


class Rest10(RestDispatcher):
    def __init__(self, handler: Handler, settings: Settings) -> None:
        super().__init__(handler, ContextBuilder())
        self._handler, self._settings = handler, settings

    def table(self) -> Table:
        configs = "/tasks/{id}/pushNotificationConfigs"
        return {
            ("/message:send", "POST"): self.on_message_send,
            ("/message:stream", "POST"): self.stream_message,
            ("/tasks/{id}:cancel", "POST"): self.on_cancel_task,
            ("/tasks/{id}:subscribe", "GET"): self.stream_task,
            ("/tasks/{id}:subscribe", "POST"): self.stream_task,
            ("/tasks/{id}", "GET"): self.on_get_task,
            ("/tasks", "GET"): self.list_tasks_checked,
            (configs, "POST"): self.set_push_notification,
            (configs, "GET"): self.list_push_notifications,
            (configs + "/{push_id}", "GET"): self.get_push_notification,
            (configs + "/{push_id}", "DELETE"): self.delete_push_notification,
            ("/extendedAgentCard", "GET"): self.handle_authenticated_agent_card,
        }

    async def list_tasks_checked(self, request: Request) -> Response:
        try:
            check_state(request.query_params.get("status"))
        except UsageError as exc:
            raise InvalidParamsError(exc.said) from exc
        answer: Response = await self.list_tasks(request)
        return answer

    async def stream_message(self, request: Request) -> Response:
        with bad_params():
            params = Parse(await request.body(), pb.SendMessageRequest(), ignore_unknown_fields=True)
        return self._streamed(await self._handler.stream_message(params, self._build_call_context(request)))

    async def stream_task(self, request: Request) -> Response:
        params = pb.SubscribeToTaskRequest(id=request.path_params["id"])
        return self._streamed(await self._handler.stream_task(params, self._build_call_context(request)))

    def _streamed(self, stream: TaskStream) -> Response:
        return stream.response(rest(), self._settings.send_timeout)


class Rest03(REST03Adapter):
    def __init__(self, handler: Handler, settings: Settings) -> None:
        super().__init__(handler, ContextBuilder())
        self.handler.handler03 = self._handler03 = Handler03(handler)
        self._handler, self._settings = handler, settings

    def routes(self) -> Table:
        configs = "/v1/tasks/{id}/pushNotificationConfigs"
        own: Table = {
            ("/v1/message:stream", "POST"): self.stream_message,
            ("/v1/tasks/{id}:subscribe", "GET"): self.stream_task,
            ("/v1/tasks/{id}:subscribe", "POST"): self.stream_task,
            (configs, "POST"): partial(self._handle_request, self.set_config),
            (configs + "/{push_id}", "DELETE"): partial(self._handle_request, self.delete_config),
        }
        return super().routes() | own

    async def _handle_request(
        self, method: Callable[[Request, ServerCallContext], Awaitable[Any]], request: Request
    ) -> Response:
        context = self._context_builder.build(request)
        with bad_params():
            return JSONResponse(await method(request, context))

    async def stream_message(self, request: Request) -> Response:
        context = self._context_builder.build(request)
        with bad_params():
            parsed = Parse(await request.body(), pb03.SendMessageRequest(), ignore_unknown_fields=True)
            params = proto_utils.FromProto.message_send_params(parsed)
            call = types03.SendMessageRequest(id="", params=params)
        return self._streamed(await self._handler.stream_message(self._handler03.core(call), context))

    async def stream_task(self, request: Request) -> Response:
        params = types03.TaskIdParams(id=request.path_params["id"])
        core = conversions.to_core_subscribe_to_task_request(types03.TaskResubscriptionRequest(id="", params=params))
        return self._streamed(await self._handler.stream_task(core, self._context_builder.build(request)))

    async def set_config(self, request: Request, context: ServerCallContext) -> Any:
        """The body is the config, as 0.3's proto has it, or holds it, as the Python client of 0.3 sends it."""
        body = request.state.json
        config = body.get("config", body) if isinstance(body, dict) else body
        request._body = json.dumps({"parent": f"tasks/{request.path_params['id']}", "config": config}).encode()
        return await self.handler.set_push_notification(request, context)

    async def delete_config(self, request: Request, context: ServerCallContext) -> Any:
        """Not among the SDK's routes, though 0.3 has it."""
        ids = {"id": request.path_params["id"], "push_notification_config_id": request.path_params["push_id"]}
        params = types03.DeleteTaskPushNotificationConfigParams(**ids)
        call = types03.DeleteTaskPushNotificationConfigRequest(id="", params=params)
        await self._handler03.on_delete_task_push_notification_config(call, context)
        return {}

    def _streamed(self, stream: TaskStream) -> Response:
        return stream.response(rest("0.3"), self._settings.send_timeout)
