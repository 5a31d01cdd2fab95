"""Serves the runtime API of one worker on a Unix socket, and has the images at work in it.

async with api.opened(): ...
brain = await api.begin(work, start)   # registered before `start` runs its container, until `close`
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import structlog
import uvicorn
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.auth.turn_tokens import TurnTokens
from gateway.clock import new_id
from gateway.errors import SwitchboardError
from gateway.log.store import Log
from gateway.runtime_api import appended
from gateway.runtime_api.app import Faces, application
from gateway.runtime_api.brain import Body, Brain, Work, superseded
from gateway.server import Protocol
from gateway.settings import Settings

BACKLOG = 256
SWEEP_SECONDS = 60.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
log_ = structlog.get_logger("switchboard.runtime_api")
Start = Callable[[Brain, str], Awaitable[Body]]  # runs the image, which is known by the token


class RuntimeApi:
    """`more` are routes of others, to be set before the first image comes."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._tokens = TurnTokens.load(settings.turns_key_file)
        self.faces = Faces(log, self._tokens, settings.max_body_bytes)
        self.more: Sequence[BaseRoute] = ()
        # For whoever watches images: what stands before the application, and what a brain takes for its container.
        self.front: Callable[[ASGIApp], ASGIApp] = lambda app: app
        self.embody: Callable[[Brain, Any], Body] = lambda _brain, body: body
        self._group: anyio.abc.TaskGroup | None = None
        self.socket = Path()  # where it listens

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """It listens from the first image on."""
        async with AsyncExitStack() as self._stack, anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                group.cancel_scope.cancel()

    async def _listen(self) -> None:
        if not self.socket.name:
            listening, self.socket = self._stack.enter_context(listening_in(self._settings.data_dir / "run"))
            assert self._group is not None
            server = uvicorn.Server(self._config())
            self._group.start_soon(_serve, server, listening)
            self._group.start_soon(self._sweep_forever)

    async def _sweep_forever(self) -> None:
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            try:
                await self._log.database.write(appended.forget_ended)
            except SwitchboardError as exc:
                log_.debug("appended_not_swept", error=exc.message)

    def _config(self) -> uvicorn.Config:
        class Limited(Protocol):
            max_bytes = self._settings.max_header_bytes

        quiet: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "off"}
        app = self.front(application(self.faces, self.more))
        return uvicorn.Config(app, http=Limited, ws="none", proxy_headers=False, **quiet)

    async def begin(self, work: Work, start: Start) -> Brain:
        """An image at work. Raises what `start` does, and what the database does."""
        await self._listen()
        brain = Brain(work, await self._log.database.read(lambda conn: appended.before(conn, work.turn)))
        earlier = self.faces.brains.get(work.turn.id)
        if earlier is not None:
            earlier.end(superseded())
        self.faces.brains[work.turn.id] = brain
        brain.gone = lambda: self._gone(brain)
        try:
            body = await start(brain, self._tokens.token(brain.holder))
        except BaseException:
            brain.end(superseded())
            self._gone(brain)
            raise
        assert self._group is not None
        brain.take(self.embody(brain, body))
        self._group.start_soon(brain.attend)
        return brain

    def _gone(self, brain: Brain) -> None:
        if self.faces.brains.get(brain.turn.id) is brain:
            del self.faces.brains[brain.turn.id]


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Until cancelled. `server.serve` would take the signals of the process."""
    try:
        await server._serve([listening])
    finally:
        for one in getattr(server, "servers", ()):
            one.close()
        for connection in list(server.server_state.connections):
            connection.shutdown()


@contextmanager
def listening_in(folder: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A socket below the data directory, where an engine sees it, too. A socket's own path has at most 107 bytes.

    Other machines may have the same directory: nobody answers here at what listens there, so each kernel has a folder.
    """
    mine = folder / _kernel()
    mine.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in mine.glob("*.sock"):
        if _is_dead(old):  # of a worker that was killed
            old.unlink(missing_ok=True)
    path = mine / f"{new_id('api')}.sock"
    handle = os.open(mine, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{handle}/{path.name}")
            listening.listen(BACKLOG)
            yield listening, path
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _kernel() -> str:
    """Which machine this is since which start of it; containers are of their machine."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return new_id("run")


def _is_dead(path: Path) -> bool:
    """Whether surely nobody listens."""
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.setblocking(False)  # one whose queue is full may stand still
            tried.connect(f"/proc/self/fd/{handle}/{path.name}")
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
