"""`python -m gateway`: serve. What `switchboard serve` runs."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pydantic
import uvicorn

from gateway.errors import SwitchboardError
from gateway.settings import Settings
from gateway.telemetry import configure

GRACE_SECONDS = 5  # how long open streams may go on when the gateway is asked to stop


def main() -> int:
    try:
        settings = Settings()
        configure(settings)
        from gateway.app import create_app

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
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # it would be done for each reader anew
        server_header=False,
    )
    return 0


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
