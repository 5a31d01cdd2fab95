"""Bytes that are no message of a gRPC method are the caller's mistake: grpcio alone answers UNKNOWN, with a Python error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # has no stubs
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no stubs

SAID = "The bytes of the request are no message of this method."


class Reading(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # has no stubs
    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None

        def read(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError:
                return None

        async def one(request: Any, context: Any) -> Any:
            await _refuse_nothing(request, context)
            return await handler.unary_unary(request, context)

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            await _refuse_nothing(request, context)
            async for answer in handler.unary_stream(request, context):
                yield answer

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(many, read, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(one, read, handler.response_serializer)


async def _refuse_nothing(request: Any, context: Any) -> None:
    if request is None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, SAID)
