"""A webhook receiver on loopback, in a thread of its own: what it answers is said by path, what it got is kept."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio.lowlevel
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]
LONG = 20.0


class Cut(Exception):
    """Makes the server drop the connection in the middle of its answer."""


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        found: Json = json.loads(self.body)
        return found

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> str:
        """What it tells, in a word: a state, or the text of an artifact."""
        if "artifactUpdate" in self.json:
            return "".join(part["text"] for part in self.json["artifactUpdate"]["artifact"]["parts"])
        status = self.json.get("statusUpdate", self.json)["status"]
        return str(status["state"]).removeprefix("TASK_STATE_").lower()


def once(found: Iterable[Got]) -> list[Got]:
    """Each delivery once, in the order of its first try."""
    first: dict[str, Got] = {}
    for got in found:
        first.setdefault(got.id, got)
    return list(first.values())


class Receiver:
    """Paths: /ok, /hold (answers once `release` is set), /status (the next of `statuses`), /cut (the first answer breaks
    off), /redirect (to `location`), /endless (never stops answering)."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[Got] = []
        self.acknowledged: list[str] = []  # ids answered 2xx, in order
        self.statuses: list[int] = []
        self.status = 200  # when `statuses` is empty
        self.location = ""
        self.retry_after = ""  # what /status asks for beside a failure
        self.release = threading.Event()
        self._breaks = True
        self._changed = threading.Condition()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until what was received makes it true."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(done, LONG)

        assert await anyio.to_thread.run_sync(wait), [(got.id, got.said) for got in self.got]

    async def until_said(self, *said: str) -> None:
        await self.until(lambda: [got.said for got in self.once()] == list(said))

    def once(self) -> list[Got]:
        """What was received, each delivery once, in the order of its first try."""
        return once(self.got)

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        with self._changed:
            self.got.append(Got(request.url.path, dict(request.headers), body))
            self._changed.notify_all()
        response = await getattr(self, "_" + request.path_params["way"])(request)
        with self._changed:
            if response.status_code < 300:
                self.acknowledged.append(request.headers.get("webhook-id", ""))
            self._changed.notify_all()
        return response  # type: ignore[no-any-return]

    async def _ok(self, _: Request) -> Response:
        return Response(status_code=204)

    async def _hold(self, _: Request) -> Response:
        await anyio.to_thread.run_sync(self.release.wait, LONG, abandon_on_cancel=True)
        return Response(status_code=200)

    async def _status(self, _: Request) -> Response:
        status = self.statuses.pop(0) if self.statuses else self.status
        return Response(
            status_code=status, headers={"Retry-After": self.retry_after} if status >= 300 and self.retry_after else {}
        )

    async def _cut(self, _: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise Cut

        broken, self._breaks = self._breaks, False
        return StreamingResponse(body(), headers={"Content-Length": "8"}) if broken else Response(status_code=200)

    async def _redirect(self, _: Request) -> Response:
        return RedirectResponse(self.location, 307)

    async def _endless(self, _: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65536
                await anyio.lowlevel.checkpoint()  # lets the server see that nobody reads any more

        return StreamingResponse(body())


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def receiving(**tls: Any) -> Iterator[Receiver]:
    """A receiver on a free port; `tls`: uvicorn's options for a certificate."""
    receiver = Receiver()
    app = Starlette(routes=[Route("/{way}", receiver.answer, methods=["POST", "GET"])])
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none", lifespan="off", timeout_graceful_shutdown=1, **tls)
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.up.wait(10)
        port = server.servers[0].sockets[0].getsockname()[1]
        receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield receiver
    finally:
        receiver.release.set()
        server.should_exit = True  # not force_exit, which leaves sockets open
        thread.join(10)


def trusting(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)
