"""One HTTP request from inside a sandbox, as bytes and as what it asks for. One connection carries one request.

Targets are taken apart by the strictest reading and put together anew, so that no two readers can understand them
differently: no user, no fragment, no spelling of a host beyond names and addresses in their plain form.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import anyio
import anyio.abc
import h11

MAX_HEAD = 64 * 1024  # bytes
READ = 64 * 1024
Headers = list[tuple[bytes, bytes]]
_HOP = frozenset(  # RFC 9110, section 7.6.1, and what the gateway says itself
    b"connection keep-alive proxy-connection proxy-authorization te trailer upgrade expect host".split()
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_AUTHORITY = r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})"
_CONNECT = re.compile(rf"{_AUTHORITY}:([0-9]{{1,5}})")
_ABSOLUTE = re.compile(rf"http://{_AUTHORITY}(?::([0-9]{{1,5}}))?([/?][^#]*)?", re.IGNORECASE)


class BadRequest(Exception):
    """What was asked for makes no sense to a proxy; the text is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Target:
    host: str  # in lower case; an IPv6 address without its brackets
    port: int
    rest: str = ""  # path and query, where the request was for a whole URL

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}{self.rest}"


def target_of(request: h11.Request) -> Target:
    """Whom a request is for. The Host header counts for nothing: RFC 9112, section 3.2.2. Raises BadRequest."""
    text = request.target.decode("ascii")
    pattern = _CONNECT if request.method == b"CONNECT" else _ABSOLUTE
    found = pattern.fullmatch(text)
    if found is None:
        raise BadRequest("A proxy takes CONNECT host:port, and http://host/path.")
    port, host = int(found[2] or 80), found[1].strip("[]").lower().rstrip(".")
    if not 0 < port < 65536 or not host:
        raise BadRequest("There is no such host or port.")
    rest = "" if pattern is _CONNECT else found[3] or "/"
    return Target(host, port, f"/{rest}" if rest.startswith("?") else rest)


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Those that are meant for whoever is at the other end, names in lower case."""
    found = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in found if name == b"connection" for word in value.split(b",")}
    return [(name, value) for name, value in found if name not in _HOP and name not in named - _FRAMING]


def framed_anew(headers: Headers) -> Headers:
    """For h11, which chunks what has no length."""
    return [(name, value) for name, value in headers if name != b"transfer-encoding"]


class Incoming:
    """A connection from inside, and the one request on it."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    @property
    def answered(self) -> bool:
        return self.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def request(self) -> h11.Request | None:
        """None where nobody asks. Raises h11.RemoteProtocolError."""
        event = await self._next()
        return event if isinstance(event, h11.Request) else None

    def body(self, request: h11.Request) -> AsyncIterator[bytes] | None:
        """None where there is none."""
        return self._pieces() if any(name in _FRAMING for name, _ in request.headers) else None

    async def _pieces(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(), h11.Data):
            yield bytes(event.data)

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                self.http.receive_data(await self.stream.receive(READ))
            except anyio.EndOfStream:
                self.http.receive_data(b"")
        return event

    async def send(self, event: h11.Event) -> None:
        await self.stream.send(self.http.send(event) or b"")

    async def answer(self, status: int, text: str) -> None:
        """The whole answer, in the gateway's own words."""
        body = f"{text}\n".encode()
        headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))), ("connection", "close")]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())
