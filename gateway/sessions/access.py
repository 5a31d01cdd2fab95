"""Who asks and for what: a caller with all its sessions, or a client token with one of them, to read or to write.

Callers sign in as they do to A2A. A client token comes as a bearer token too, or as `?token=` where a browser cannot set
headers (EventSource, WebSocket); `HideToken` takes it out of the URL before anything could log it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, TypeVar
from urllib.parse import parse_qsl, urlencode

import anyio
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from gateway.auth import client_tokens
from gateway.auth.addresses import HEADER as FORWARDED
from gateway.auth.addresses import Proxies
from gateway.auth.callers import Callers, Principal, credentials, wrong
from gateway.auth.client_tokens import ClientTokens, Grant
from gateway.clock import now_us
from gateway.errors import OutOfScope
from gateway.sessions.views import missing

# any: whatever a client token is for; caller: whatever is not for client tokens
Scope = Literal["read", "write", "any", "caller"]
T = TypeVar("T")
ALL = frozenset({"read", "write"})
_TOKEN = "switchboard.token"


@dataclass(frozen=True, slots=True)
class Access:
    principal: Principal
    scopes: frozenset[str] = ALL
    grant: Grant | None = None  # of a client token

    def to_session(self, id: str, scope: Scope) -> None:
        """Raises NotFound for another session than a token's, OutOfScope."""
        if self.grant is not None and self.grant.session_id != id:
            raise missing(id)
        self.check(scope)

    def check(self, scope: Scope) -> None:
        """Raises OutOfScope."""
        if scope == "caller" and self.grant is not None:
            raise OutOfScope("This is not for client tokens.", "Use the key or token of a caller.")
        if scope in ALL and scope not in self.scopes:
            raise OutOfScope(f"This client token is not for the scope {scope!r}.", "Ask for one that is.")

    def is_over(self) -> bool:
        """Whether a client token holds no longer; of a connection that is still open."""
        return self.grant is not None and self.grant.expires_at * 1_000_000 <= now_us()

    def while_it_holds(self, items: AsyncIterator[T]) -> AsyncIterator[T]:
        """To their end, or to that of a client token, also while there are none."""
        return items if self.grant is None else self._until(self.grant.expires_at, items)

    async def _until(self, expires_at: int, items: AsyncIterator[T]) -> AsyncIterator[T]:
        while not self.is_over():
            try:
                with anyio.move_on_after(expires_at - now_us() / 1_000_000) as waited:
                    item = await anext(items)
            except StopAsyncIteration:
                return
            if waited.cancelled_caught or self.is_over():
                return
            yield item

    def check_time(self) -> None:
        """Raises WrongKey."""
        if self.is_over():
            raise wrong("The client token has expired.")


class Gate:
    def __init__(self, callers: Callers, tokens: ClientTokens, proxies: Proxies) -> None:
        self._callers, self.tokens, self._proxies = callers, tokens, proxies

    async def access(self, connection: HTTPConnection) -> Access:
        """Raises WrongKey, Unavailable."""
        given = connection.scope.get(_TOKEN)
        if given is None:
            given = credentials(connection.headers)
        elif not given.startswith(client_tokens.PREFIX):
            raise wrong("Only a client token may stand in a URL.")
        if given is None or not given.startswith(client_tokens.PREFIX):
            return Access(await self._callers.authenticate(connection.headers, self._address(connection)))
        grant = self.tokens.read(given)
        return Access(await self._callers.by_id(grant.principal, self._address(connection)), grant.scopes, grant)

    def _address(self, connection: HTTPConnection) -> str:
        peer = connection.client.host if connection.client else ""
        return self._proxies.caller(peer, connection.headers.getlist(FORWARDED))


class HideToken:
    """Takes `token` out of a URL's query: the server's access log, which reads the same scope, never sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        query = scope.get("query_string", b"")
        if b"token" in query or b"%" in query:  # however it is written
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
            scope[_TOKEN] = next((value for name, value in reversed(pairs) if name == "token"), None)
            scope["query_string"] = urlencode([pair for pair in pairs if pair[0] != "token"]).encode("latin-1")
        await self._app(scope, receive, send)
