"""JSON-RPC on `/agents/{name}`: 1.0 by the SDK's dispatcher, 0.3 by its compat adapter, both with streams of our own.

What the SDK leaves open is settled before: versions, batches, notifications. A notification (no `id`) is checked and
done like any request, and answered by 204 without a body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types03
from a2a.compat.v0_3.jsonrpc_adapter import JSONRPC03Adapter
from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONRPCError
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import A2AError, InternalError, InvalidParamsError, InvalidRequestError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.a2a.admission import ContextBuilder, Refused
from gateway.a2a.framing import jsonrpc
from gateway.a2a.handler import Handler
from gateway.a2a.handler03 import Handler03
from gateway.a2a.stream import TaskStream
from gateway.a2a.tasks import check_state
from gateway.a2a.versions import HEADER, require, spoken
from gateway.clock import new_id
from gateway.errors import UsageError
from gateway.settings import Settings


class Dispatcher(JsonRpcDispatcher):
    def __init__(self, handler: Handler, settings: Settings) -> None:
        builder = ContextBuilder()
        super().__init__(handler, builder)
        self._handler, self._settings = handler, settings
        self.enable_v0_3_compat, self._v03_adapter = True, Adapter03(handler, builder, settings)

    async def answer(self, request: Request) -> Response:
        """Answer an admitted request."""
        body = request.state.json
        if not isinstance(body, dict):
            return Refused(200, InvalidRequestError("A request is one JSON object; batches are not supported.")).jsonrpc()
        notifies = "id" not in body and body.get("jsonrpc") == "2.0" and isinstance(body.get("method"), str)
        request._json = body  # Starlette's own cache: the SDK reads it from there
        answer = await self._answer(request, body)
        for exc in request.state.refused:
            return Refused.by(exc).jsonrpc(_id(body))
        answer.headers.update(request.state.extensions)
        return Response(status_code=204) if notifies else answer

    async def _answer(self, request: Request, body: dict[str, Any]) -> Response:
        try:
            request.state.version = spoken(request.headers.get(HEADER), request.query_params.get(HEADER))
            method = body.get("method")
            if not isinstance(method, str):
                raise InvalidRequestError("The method is missing, or no text.")
            if method in self.METHOD_TO_MODEL:
                require("1.0", request.state.version, f"Method {method}")
            elif method in JSONRPC03Adapter.METHOD_TO_MODEL:
                require("0.3", request.state.version, f"Method {method}")
            if method == "ListTasks" and isinstance(body.get("params"), dict):
                check_state(body["params"].get("status"))
        except UsageError as exc:
            return self._generate_error_response(_id(body), InvalidParamsError(exc.said))
        except A2AError as exc:
            return self._generate_error_response(_id(body), exc)
        return await self.handle_requests(request)

    async def _process_streaming_request(self, request_id: Any, request_obj: Any, context: ServerCallContext) -> Any:
        open_: Callable[[Any, ServerCallContext], Awaitable[TaskStream]] = self._handler.stream_task
        if isinstance(request_obj, pb.SendMessageRequest):
            open_ = self._handler.stream_message
        return await open_(request_obj, context)

    def _create_response(self, context: ServerCallContext, handler_result: Any) -> Response:
        if not isinstance(handler_result, TaskStream):
            return super()._create_response(context, handler_result)
        framing = jsonrpc(context.state.get("request_id"))
        return handler_result.response(framing, self._settings.send_timeout)

    def _generate_error_response(
        self, request_id: str | int | None, error: Exception | JSONRPCError | A2AError
    ) -> JSONResponse:
        return super()._generate_error_response(request_id, _neutral(error))


class Adapter03(JSONRPC03Adapter):
    def __init__(self, handler: Handler, builder: ContextBuilder, settings: Settings) -> None:
        super().__init__(handler, builder)
        self.handler = self._handler03 = Handler03(handler)
        self._handler, self._settings = handler, settings

    async def handle_request(self, request_id: str | int | None, method: str, body: dict[str, Any], request: Request) -> Any:
        try:
            self.METHOD_TO_MODEL[method].model_validate(body)
        except ValidationError as exc:
            return self._generate_error_response(request_id, bad_fields(exc))
        return await super().handle_request(request_id, method, body, request)

    async def _process_streaming_request(self, request_id: Any, request_obj: Any, context: ServerCallContext) -> Any:
        if isinstance(request_obj, types03.TaskResubscriptionRequest):
            core = conversions.to_core_subscribe_to_task_request(request_obj)
            stream = await self._handler.stream_task(core, context)
        else:
            stream = await self._handler.stream_message(self._handler03.core(request_obj), context)
        return stream.response(jsonrpc(request_id, "0.3"), self._settings.send_timeout)

    async def _process_non_streaming_request(
        self, request_id: str | int | None, request_obj: Any, context: ServerCallContext
    ) -> JSONResponse:
        answer = await super()._process_non_streaming_request(request_id, request_obj, context)
        if isinstance(request_obj, types03.DeleteTaskPushNotificationConfigRequest):  # the SDK leaves a null result out
            return JSONResponse({"jsonrpc": "2.0", "id": request_id, "result": None})
        return answer

    def _generate_error_response(self, request_id: str | int | None, error: Exception | JSONRPCError) -> JSONResponse:
        return super()._generate_error_response(request_id, _neutral(error))


def _id(body: dict[str, Any]) -> str | int | None:
    id = body.get("id")
    return id if isinstance(id, str | int) else None


def bad_fields(exc: ValidationError) -> InvalidParamsError:
    """Which parameters are wrong, without a validator's own words."""
    fields = {".".join(str(part) for part in error["loc"]) or "params" for error in exc.errors()}
    return InvalidParamsError(f"These parameters are missing or wrong: {', '.join(sorted(fields))[:300]}.")


def _neutral(error: Any) -> Any:
    """An error fit for callers: what the SDK made of an exception it did not expect holds that exception's text."""
    if isinstance(error, A2AError) or (isinstance(error, JSONRPCError) and error.code != -32603):
        return error
    return InternalError(f"The agent could not answer (incident {new_id('inc')}).")
