"""What is done with one connection from inside a sandbox: a tunnel, a request passed on, or a request to the model.

    CONNECT host:port            judged, then bytes both ways
    GET http://host/path         judged, then passed on with the Host of the URL
    POST /-/model/...            passed on to the agent's own provider, with the stored key

Everything streams; nothing is held beyond a piece. Redirects are handed back, so that where they lead is judged in its turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import anyio.abc
import h11
import httpcore2
import structlog

from gateway.dial import CONNECT_SECONDS, Pinned, dial
from gateway.egress.judge import Denied, Judge
from gateway.egress.messages import READ, BadRequest, Headers, Incoming, framed_anew, passed_on, target_of
from gateway.egress.model import PREFIX, Model

HEAD_SECONDS = 20.0
IDLE_SECONDS = 900.0  # without a byte; a model may think for long
_TIMEOUTS = {"timeout": {"connect": CONNECT_SECONDS, "write": IDLE_SECONDS, "read": IDLE_SECONDS, "pool": IDLE_SECONDS}}
_GONE = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, h11.LocalProtocolError)
_FAILED = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)
log_ = structlog.get_logger("switchboard.egress")


class Proxy:
    """For one turn. `provider` holds the connections to the model's provider."""

    def __init__(self, judge: Judge, model: Model | None, provider: httpcore2.AsyncConnectionPool) -> None:
        self._judge, self._model, self._provider = judge, model, provider

    async def serve(self, stream: anyio.abc.ByteStream) -> None:
        """Answer the one request of a connection; whatever comes of it, only this connection ends."""
        async with stream:
            try:
                await self._answer(Incoming(stream))
            except _GONE:
                return
            except Exception:
                log_.exception("egress_broken")

    async def _answer(self, incoming: Incoming) -> None:
        try:
            await self._serve(incoming)
        except (BadRequest, h11.RemoteProtocolError) as exc:
            await self._refuse(incoming, 400, str(exc))
        except Denied as exc:
            await self._refuse(incoming, 403, str(exc))
        except _FAILED as exc:
            await self._refuse(incoming, 502, f"The host could not be reached: {type(exc).__name__}.")

    async def _refuse(self, incoming: Incoming, status: int, text: str) -> None:
        if not incoming.answered:
            await incoming.answer(status, text)

    async def _serve(self, incoming: Incoming) -> None:
        request = None
        with anyio.move_on_after(HEAD_SECONDS):
            request = await incoming.request()
        if request is None:
            return
        if request.method == b"CONNECT":
            await self._tunnel(incoming, request)
        elif request.target.startswith(b"/"):
            await self._ask_model(incoming, request)
        else:
            await self._pass_on(incoming, request)

    async def _tunnel(self, incoming: Incoming, request: h11.Request) -> None:
        target = target_of(request)
        addresses = await self._judge.admit("CONNECT", target.host, target.port)
        async with await dial(addresses, target.port) as outside:
            await incoming.send(h11.Response(status_code=200, headers=[]))
            early, _ = incoming.http.trailing_data
            if early:
                await outside.send(early)
            async with anyio.create_task_group() as group:
                group.start_soon(_copy, incoming.stream, outside)
                group.start_soon(_copy, outside, incoming.stream)

    async def _pass_on(self, incoming: Incoming, request: h11.Request) -> None:
        target = target_of(request)
        addresses = await self._judge.admit(request.method.decode("ascii"), target.host, target.port)
        headers = [(b"host", target.authority.removesuffix(":80").encode("ascii")), *passed_on(request.headers)]
        async with httpcore2.AsyncConnectionPool(network_backend=Pinned(addresses)) as pool:
            await self._exchange(incoming, request, pool, target.url, headers)

    async def _ask_model(self, incoming: Incoming, request: h11.Request) -> None:
        target = request.target.decode("ascii")
        if self._model is None or not target.startswith(f"{PREFIX}/"):
            raise BadRequest("There is nothing here.")
        url, headers = self._model.url(target), self._model.headers(request.headers)
        try:
            status = await self._exchange(incoming, request, self._provider, url, headers)
        except _FAILED:
            self._judge.model_failed = True
            raise
        self._judge.model_failed = status >= 400

    async def _exchange(
        self, incoming: Incoming, request: h11.Request, pool: httpcore2.AsyncConnectionPool, url: str, headers: Headers
    ) -> int:
        """Pass a request on and its answer back. Answers the status."""
        body, method = incoming.body(request), request.method.decode("ascii")
        async with pool.stream(method, url, headers=headers, content=body, extensions=dict(_TIMEOUTS)) as response:
            told = [*framed_anew(passed_on(response.headers)), (b"connection", b"close")]
            reason = response.extensions.get("reason_phrase", b"")
            await incoming.send(h11.Response(status_code=response.status, headers=told, reason=reason))
            async for piece in response.aiter_stream():
                await incoming.send(h11.Data(data=piece))
            await incoming.send(h11.EndOfMessage())
            return int(response.status)


async def _copy(source: anyio.abc.ByteStream, to: anyio.abc.ByteStream) -> None:
    """All that comes, to its end, which the other side is told."""
    with suppress(*_GONE):
        async for piece in _pieces(source):
            await to.send(piece)
    with suppress(*_GONE):
        await to.send_eof()


async def _pieces(source: anyio.abc.ByteStream) -> AsyncIterator[bytes]:
    while True:
        with anyio.move_on_after(IDLE_SECONDS) as scope:
            piece = await source.receive(READ)
        if scope.cancelled_caught:
            return
        yield piece
