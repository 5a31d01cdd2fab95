"""`python -m gateway`: serve. What `switchboard serve` runs; with `worker` behind it, what `switchboard worker` runs."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import anyio
import pydantic
import uvicorn
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette

from gateway.errors import SwitchboardError
from gateway.settings import Settings
from gateway.telemetry import configure

NOT_STARTED = 3  # as uvicorn has it
GRACE_SECONDS = 5  # how long open streams may go on after the last turn, when the gateway is asked to stop


LAST_WORDS_SECONDS = 0.5  # for the streams to tell the end of the last turn


def main() -> int:
    try:
        settings = Settings()
        configure(settings)
        if sys.argv[1:] == ["worker"]:
            from gateway.working import work

            anyio.run(work, settings)
            return 0
        from gateway.app import create_app
        from gateway.server import config

        app = create_app(settings)
    except pydantic.ValidationError as exc:
        for error in exc.errors():
            name = "_".join(str(part) for part in error["loc"]).upper()
            print(f"SWITCHBOARD_{name}={error['input']!r}: {error['msg']}", file=sys.stderr)
        return 2
    except SwitchboardError as exc:
        print(exc.said, file=sys.stderr)
        return exc.codes.exit
    except OSError as exc:
        print(f"The data directory {str(settings.data_dir)!r} cannot be used: {exc}", file=sys.stderr)
        return 1
    _say_hello(settings)
    patience = math.ceil(settings.drain_seconds + settings.stop_seconds + GRACE_SECONDS)
    server = _Server(config(app, settings, timeout_graceful_shutdown=patience), app)
    try:
        with suppress(KeyboardInterrupt):
            server.run()
    finally:  # it may have left by SystemExit
        if app.state.why:
            print(app.state.why.said, file=sys.stderr)
    return 0 if server.started else NOT_STARTED


class _Server(uvicorn.Server):
    """Asked to stop, it lets the running turns end first, and then the streams that tell of them."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app
        AppStatus.enable_automatic_graceful_drain = False  # it would end the streams first

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.started:
            self._app.state.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_streams)
            await super().shutdown(sockets)
            group.cancel_scope.cancel()

    async def _end_streams(self) -> None:
        """Waits for, and streams of, what has not ended: whoever has them goes on at another gateway."""
        await self._app.state.drained()
        self._app.state.log.leave()
        await anyio.sleep(LAST_WORDS_SECONDS)
        AppStatus.should_exit = True


def _say_hello(settings: Settings) -> None:
    """Three commands to try, ready to be copied: with the settings that differ from the defaults, if any."""
    given = {f"SWITCHBOARD_{name.upper()}": getattr(settings, name) for name in ("host", "port", "data_dir")}
    prefix = "".join(f"{name}={shlex.quote(str(value))} " for name, value in given.items() if name in os.environ)
    command = "switchboard" if shutil.which("switchboard") else os.path.relpath(Path(sys.executable).with_name("switchboard"))
    print(f"Switchboard serves at {settings.url}. In another terminal, try:", file=sys.stderr)
    for words in ('call hello "Say hello"', "agent show hello", "runtimes list"):
        print(f"    {prefix}{command} {words}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
