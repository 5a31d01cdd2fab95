"""Checks one image and prints the report as JSON; exit code 1 where something that is required falls short.

python -m gateway.conformance IMAGE [--providers openai,anthropic] [--capabilities steer] [--only cancel,ask]

It ends when its stdin does, so that it never outlives who wants to know.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import structlog

from adapters.launch.container import Engine
from adapters.launch.images import digest_of
from adapters.launch.process import LaunchError
from gateway.conformance.kit import Report, check
from gateway.errors import SwitchboardError
from registry.images import Image


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.conformance", description="Check an image against the contract.")
    parser.add_argument("image", nargs="?")
    parser.add_argument("--providers", default="")
    parser.add_argument("--capabilities", default="")
    parser.add_argument("--only", default="", help="ids of checks")
    parser.add_argument("--folder", type=Path, help="an empty one, where the engine sees it, too")
    parser.add_argument("--pushed", help=argparse.SUPPRESS)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        report = anyio.run(_checked, given, bool(given.pushed))
    except (LaunchError, SwitchboardError) as exc:
        print(exc, file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), ensure_ascii=False, indent=1))
    return 0 if report.ok else 1


async def _checked(given: argparse.Namespace, watched: bool) -> Report:
    folder = given.folder or Path(tempfile.mkdtemp(prefix="switchboard-kit-"))
    image = await _image(given)
    async with anyio.create_task_group() as group:
        if watched:
            group.start_soon(_until_stdin_ends, group.cancel_scope.cancel)
        only = _words(given.only)
        report = await check(image, folder, only=only, heard=lambda name: print(name, file=sys.stderr, flush=True))
        group.cancel_scope.cancel()
        return report
    raise SwitchboardError("The check was given up.", "Run it again.")


async def _until_stdin_ends(cancel: Callable[[], None]) -> None:
    await anyio.wait_readable(0)  # nobody writes to it
    cancel()


async def _image(given: argparse.Namespace) -> Image:
    if given.pushed:
        pushed = json.loads(given.pushed)
        return Image(pushed.pop("image"), pushed.pop("digest"), **{name: tuple(value) for name, value in pushed.items()})
    with closing(Engine(os.environ)) as engine:
        digest = await digest_of(engine, given.image)
    return Image(given.image, digest, _words(given.providers), _words(given.capabilities))


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


if __name__ == "__main__":
    raise SystemExit(main())
