"""`python -m gateway`: serve. What `switchboard serve` runs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pydantic
import uvicorn

from gateway.errors import SwitchboardError
from gateway.settings import Settings
from gateway.telemetry import configure

NOT_STARTED = 3  # as uvicorn has it
GRACE_SECONDS = 5  # how long open streams may go on when the gateway is asked to stop


def main() -> int:
    try:
        settings = Settings()
        configure(settings)
        from gateway.app import create_app
        from gateway.server import config

        app = create_app(settings)
    except pydantic.ValidationError as exc:
        for error in exc.errors():
            name = "_".join(str(part) for part in error["loc"]).upper()
            print(f"SWITCHBOARD_{name}={error['input']!r}: {error['msg']}", file=sys.stderr)
        return 2
    except SwitchboardError as exc:
        print(f"{exc.message} {exc.hint}".strip(), file=sys.stderr)
        return exc.codes.exit
    except OSError as exc:
        print(f"The data directory {str(settings.data_dir)!r} cannot be used: {exc}", file=sys.stderr)
        return 1
    _say_hello(settings)
    server = uvicorn.Server(config(app, settings, timeout_graceful_shutdown=GRACE_SECONDS))
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else NOT_STARTED


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
