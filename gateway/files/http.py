"""`GET /files/{id}`: a file, to whoever has a URL of ours that holds, or signs in as the one it belongs to.

Everybody else, and whoever names a file there is not, gets the same 404. A range of bytes can be asked for (RFC 9110,
section 14); several at once get the whole. Browsers are told to keep the file and not to look at it as a page.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import BinaryIO
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.auth.callers import Callers, Principal
from gateway.db.engine import Database
from gateway.errors import NotAllowed, NotFound, SwitchboardError
from gateway.files import rows
from gateway.files.links import PATH, Links
from gateway.files.refs import Kept
from gateway.files.rows import Found
from gateway.files.store import PIECE, Store

MayCall = Callable[[Principal, str], Awaitable[bool]]
_RANGE = re.compile(r"bytes=(?=\d|-\d)(\d{0,18})-(\d{0,18})", re.ASCII)
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
    "Accept-Ranges": "bytes",
}


def routes(download: Download) -> list[Route]:
    return [Route(PATH + "{id}", download.answer, methods=["GET"])]


class Download:
    """`may_call`: whether a principal may call an agent, by the agent's id."""

    def __init__(
        self, database: Database, store: Store, links: Links, callers: Callers, may_call: MayCall, send_timeout: float
    ) -> None:
        self._database, self._store, self._links = database, store, links
        self._callers, self._may_call, self._send_timeout = callers, may_call, send_timeout

    async def answer(self, request: Request) -> Response:
        try:
            allowed = await self._allowed(request)
        except SwitchboardError as exc:
            headers = {"WWW-Authenticate": "Bearer"} if isinstance(exc, NotAllowed) else None
            return JSONResponse(exc.to_json(), exc.codes.http, headers=headers)
        if allowed is None:
            gone = NotFound(
                "There is no such file, or its URL has expired.", "Read the task or the events again: they have a new URL."
            )
            return JSONResponse(gone.to_json(), gone.codes.http)
        return await self._file(allowed, request.headers.get("range", ""), request.method == "HEAD")

    async def _allowed(self, request: Request) -> Kept | None:
        id, query = request.path_params["id"][:64], request.query_params
        if "signature" in query:
            if not self._links.holds(id, query.get("expires", ""), query["signature"]):
                return None
            found = await self._database.read(lambda conn: rows.get(conn, id))
            return found.kept if found else None
        principal = await self._callers.authenticate(request.headers)
        found = await self._database.read(lambda conn: rows.get(conn, id))
        return found.kept if found and await self._is_his(found, principal) else None

    async def _is_his(self, found: Found, principal: Principal) -> bool:
        return found.principal == principal.id and await self._may_call(principal, found.agent_id)

    async def _file(self, kept: Kept, asked: str, head: bool) -> Response:
        headers = {**_SAFE, "Content-Disposition": disposition(kept.name), "ETag": f'"{kept.sha256}"'}
        wanted = _RANGE.fullmatch(asked.strip())
        span = _span(wanted[1], wanted[2], kept.size) if wanted else range(kept.size)
        if span is None:
            return Response(None, 416, {**headers, "Content-Range": f"bytes */{kept.size}"})
        if wanted:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{kept.size}"
        headers["Content-Length"] = str(len(span))
        status = 206 if wanted else 200
        if head:
            return Response(None, status, headers, kept.media_type)
        file = await anyio.to_thread.run_sync(self._store.open, kept.sha256)
        answer = _Bounded(_pieces(file, span), status, headers)
        answer.raw_headers.append((b"content-type", kept.media_type.encode("latin-1")))
        answer.seconds = self._send_timeout
        return answer


class _Bounded(StreamingResponse):
    """One that does not wait for ever for a client that reads nothing."""

    seconds = 30.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def bounded(message: Message) -> None:
            with anyio.fail_after(self.seconds):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        except* TimeoutError:
            pass  # the server closes the connection, whose body is not whole


async def _pieces(file: BinaryIO, span: range) -> AsyncIterator[bytes]:
    try:
        await anyio.to_thread.run_sync(file.seek, span.start)
        left = len(span)
        while left and (piece := await anyio.to_thread.run_sync(file.read, min(PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        file.close()


def _span(first: str, last: str, size: int) -> range | None:
    """The bytes a range means, or None where there are none of them."""
    if not first:
        return range(max(0, size - int(last)), size) or None
    return range(int(first), min(size, int(last) + 1 if last else size)) or None


def disposition(name: str) -> str:
    """RFC 6266: a plain name for old clients, the whole one for others."""
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
