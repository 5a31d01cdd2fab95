"""`python -m gateway`: serve. What `switchboard serve` runs."""

from __future__ import annotations

import sys

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
        server_header=False,
    )
    return 0


def _say_hello(settings: Settings) -> None:
    if not sys.stderr.isatty():
        return
    print(f"Switchboard serves at {settings.url}. Try:", file=sys.stderr)
    for command in ('switchboard call hello "Say hello"', "switchboard agent show hello", "switchboard runtimes list"):
        print(f"    {command}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
