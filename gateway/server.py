"""The HTTP server: uvicorn's, with a limit on what may stand before a body, and answers to what is no HTTP in our shape.

Its parser has no limit of its own: without one, a head that never ends would fill the memory.
"""

from __future__ import annotations

import json
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.settings import Settings

MAX_HEADERS = 100
LINGER_SECONDS = 1.0  # a refusal is told to the end before the connection is cut, or whoever still sends never reads it


class TooMuch(Exception):
    pass


def config(app: Any, settings: Settings, **more: Any) -> uvicorn.Config:
    """How the gateway is served. Whose word is taken for a caller's address is the business of `auth.addresses`."""

    class Limited(Protocol):
        max_bytes = settings.max_header_bytes

    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Limited,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # it would be done for each reader anew
        **more,
    )


class Protocol(HttpToolsProtocol):
    max_bytes: int

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._pending: int | None = None  # bytes that came of a head since it began; None outside of one
        self._refused = False

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._pending is not None:
            self._pending += len(data)
        super().data_received(data)
        if self._pending is not None and self._pending > self.max_bytes:
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._pending = 0

    def on_headers_complete(self) -> None:
        if self._too_much():
            raise TooMuch  # the parser stops, and asks for the answer below
        self._pending = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser could not go on: with more of a head than we take, or with what is no HTTP."""
        self._refused = True
        status, body = 400, {"code": "usage_error", "message": "The request is no HTTP.", "hint": "Send HTTP/1.1."}
        if self._pending is not None and self._too_much():
            said = f"The request has more than {MAX_HEADERS} headers, or more than {self.max_bytes} bytes of them."
            status, body = 431, {"code": "too_large", "message": said, "hint": "Send fewer or shorter ones."}
        content = json.dumps(body).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content)
        self.transport.write(STATUS_LINE[status] + head + content)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _too_much(self) -> bool:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        return max(size, self._pending or 0) > self.max_bytes or len(self.headers) > MAX_HEADERS
