"""The SDK's 0.3 face of our Handler, with bad input told as such."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types03
from a2a.compat.v0_3.request_handler import RequestHandler03
from a2a.server.context import ServerCallContext
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import Error as JsonFormatError  # type: ignore[import-untyped]  # has no stubs


@contextmanager
def bad_params() -> Iterator[None]:
    """What the SDK's parsers and conversions stumble over is the caller's mistake."""
    try:
        yield
    except (ValueError, TypeError, JsonFormatError) as exc:
        raise InvalidParamsError("The parameters are not those of this method.") from exc


class Handler03(RequestHandler03):
    def core(self, request: types03.SendMessageRequest) -> pb.SendMessageRequest:
        """The 1.0 request of a 0.3 one. Raises InvalidParamsError."""
        with bad_params():
            return conversions.to_core_send_message_request(request)

    async def on_message_send(
        self, request: types03.SendMessageRequest, context: ServerCallContext
    ) -> types03.Task | types03.Message:
        self.core(request)
        return await super().on_message_send(request, context)

    async def on_message_send_stream(
        self, request: types03.SendMessageRequest, context: ServerCallContext
    ) -> AsyncIterator[Any]:
        self.core(request)
        async for event in super().on_message_send_stream(request, context):
            yield event
