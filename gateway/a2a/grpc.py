"""gRPC on a port of its own: the services of 1.0 and 0.3 by the SDK's handlers over the same Handler.

An agent is chosen by the request's `tenant`; 0.3 has none, so there (and where it is empty) by the metadata
`a2a-tenant`. This module is imported only where gRPC is switched on: grpcio is the extra `a2a-switchboard[grpc]`.
TLS is the business of the proxy in front, as with HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio
import grpc.aio  # type: ignore[import-untyped]  # has no stubs
import structlog
from a2a.compat.v0_3.a2a_v0_3_pb2_grpc import add_A2AServiceServicer_to_server as add_03
from a2a.compat.v0_3.grpc_handler import CompatGrpcHandler
from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.grpc_handler import _ERROR_CODE_MAP, DefaultGrpcServerCallContextBuilder, GrpcHandler
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server as add_10
from a2a.utils.errors import A2AError, InternalError

from gateway.a2a.admission import SECRETS, Admission
from gateway.a2a.extension import activated
from gateway.a2a.grpc_reading import Reading
from gateway.a2a.handler import Handler
from gateway.a2a.handler03 import Handler03
from gateway.a2a.security import KeyReusedError, OutcomeUnknownError, SignInError, TooManyError, UnavailableError, a2a_error
from gateway.a2a.versions import HEADER, Version, require, spoken
from gateway.auth.addresses import HEADER as FORWARDED
from gateway.clock import new_id
from gateway.errors import SwitchboardError
from gateway.settings import Settings

TENANT = "a2a-tenant"
STOP_SECONDS = 2.0
Unary = Callable[[ServerCallContext], Awaitable[Any]]
Stream = Callable[[ServerCallContext], AsyncIterable[Any]]

_ERROR_CODE_MAP[SignInError] = grpc.StatusCode.UNAUTHENTICATED
_ERROR_CODE_MAP[TooManyError] = grpc.StatusCode.RESOURCE_EXHAUSTED
_ERROR_CODE_MAP[KeyReusedError] = grpc.StatusCode.INVALID_ARGUMENT
_ERROR_CODE_MAP[UnavailableError] = grpc.StatusCode.UNAVAILABLE
_ERROR_CODE_MAP[OutcomeUnknownError] = grpc.StatusCode.UNKNOWN  # not UNAVAILABLE, which clients may try again by themselves

log_ = structlog.get_logger("switchboard.a2a")


@asynccontextmanager
async def grpc_served(handler: Handler, admission: Admission, settings: Settings) -> AsyncIterator[None]:
    """gRPC as long as the block runs; calls that run at its end get a moment to finish. Raises SwitchboardError."""
    server = grpc.aio.server(options=_options(settings), interceptors=[Reading()])
    gate = Gate(admission, settings.send_timeout)
    add_10(Service10(handler, gate), server)  # type: ignore[no-untyped-call]  # generated
    add_03(Service03(handler, gate), server)  # type: ignore[no-untyped-call]  # generated
    address = f"{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.grpc_port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as exc:
        hint = "Set SWITCHBOARD_GRPC_PORT to a free port, or to 0 for no gRPC."
        raise SwitchboardError(f"gRPC cannot listen on {address!r}.", hint) from exc
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", int(settings.send_timeout * 1000)),
    ]


class Gate:
    """What stands before every call: its version, who calls, its agent."""

    def __init__(self, admission: Admission, send_timeout: float) -> None:
        self._admission, self._send_timeout = admission, send_timeout

    async def admit(self, context: ServerCallContext, version: Version) -> None:
        headers = context.state["headers"]
        context.state["version"] = version
        require(version, spoken(headers.get(HEADER.lower())), f"This service (A2A {version})")
        tenant = context.tenant or headers.get(TENANT, "")
        try:
            face, principal = await self._admission.enter(headers, tenant, self._address(context))
        except SwitchboardError as exc:
            raise a2a_error(exc) from exc
        for name in SECRETS:
            headers.pop(name, None)
        context.state["face"], context.state["principal"] = face, principal
        await _tell_extensions(context)

    def _address(self, context: ServerCallContext) -> str:
        """The peer is told as `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`."""
        call: grpc.aio.ServicerContext = context.state["grpc_context"]
        forwarded = [value for key, value in call.invocation_metadata() or () if key == FORWARDED]
        return self._admission.proxies.caller(unquote(call.peer().partition(":")[2]), forwarded)

    def unary(self, call: Unary, version: Version) -> Unary:
        async def admitted(context: ServerCallContext) -> Any:
            try:
                await self.admit(context, version)
                return await call(context)
            except A2AError:
                raise
            except Exception as exc:
                raise _incident(exc) from exc

        return admitted

    def stream(self, call: Stream, version: Version) -> Stream:
        async def admitted(context: ServerCallContext) -> AsyncIterator[Any]:
            try:
                await self.admit(context, version)
                async for item in call(context):
                    yield item
            except A2AError:
                raise
            except Exception as exc:
                raise _incident(exc) from exc

        return admitted

    async def sent(self, items: AsyncIterable[Any], call: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Send a stream's items, and have none left for grpcio: it would wait for ever for who does not read."""
        async for item in items:
            with anyio.move_on_after(self._send_timeout) as sending:
                await call.write(item)
            if sending.cancelled_caught:
                await self._cut(call)
                return
        for item in ():
            yield item

    async def _cut(self, call: grpc.aio.ServicerContext) -> None:
        log_.warning("stream_cut", peer=call.peer(), seconds=self._send_timeout)
        said = f"Nothing was read for {self._send_timeout:g} seconds. Subscribe to the task again."
        with anyio.move_on_after(STOP_SECONDS):  # it is told, but nobody waits until that is read
            await call.abort(grpc.StatusCode.UNAVAILABLE, said)


class _ContextBuilder(DefaultGrpcServerCallContextBuilder):
    def build(self, context: grpc.aio.ServicerContext) -> ServerCallContext:
        made = super().build(context)
        made.state["headers"] = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return made


class Service10(GrpcHandler):
    def __init__(self, handler: Handler, gate: Gate) -> None:
        super().__init__(handler, _ContextBuilder())
        self._gate = gate

    async def _handle_unary(self, request: Any, context: Any, handler_func: Unary, default_response: Any) -> Any:
        return await super()._handle_unary(request, context, self._gate.unary(handler_func, "1.0"), default_response)

    async def _handle_stream(self, request: Any, context: Any, handler_func: Stream) -> AsyncIterator[Any]:
        items = super()._handle_stream(request, context, self._gate.stream(handler_func, "1.0"))
        async for item in self._gate.sent(items, context):
            yield item


class Service03(CompatGrpcHandler):
    def __init__(self, handler: Handler, gate: Gate) -> None:
        super().__init__(handler, _ContextBuilder())
        self.handler03, self._gate = Handler03(handler), gate

    async def _handle_unary(self, context: Any, handler_func: Unary, default_response: Any) -> Any:
        return await super()._handle_unary(context, self._gate.unary(handler_func, "0.3"), default_response)

    async def _handle_stream(self, context: Any, handler_func: Stream) -> AsyncIterator[Any]:
        items = super()._handle_stream(context, self._gate.stream(handler_func, "0.3"))
        async for item in self._gate.sent(items, context):
            yield item


async def _tell_extensions(context: ServerCallContext) -> None:
    """What the call activates, told back in the metadata an answer begins with."""
    call: grpc.aio.ServicerContext = context.state["grpc_context"]
    metadata = [(key, value) for key, value in call.invocation_metadata() or () if isinstance(value, str)]
    found = context.state["extensions"] = activated(metadata)
    if found:
        await call.send_initial_metadata([(name.lower(), uris) for name, uris in found.items()])


def _incident(exc: Exception) -> A2AError:
    incident = new_id("inc")
    log_.error("call_failed", incident=incident, exc_info=exc)
    return InternalError(f"The agent could not answer (incident {incident}).")
