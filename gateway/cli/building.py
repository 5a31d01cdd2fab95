"""`switchboard runtimes build`: the images agents and gateways run in, built from a checkout as `make images` does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import gateway
from gateway.cli.output import Output
from gateway.cli.runtimes import runtimes
from gateway.cli.shell import as_json, flush
from gateway.errors import RuntimeUnavailable

IMAGES = ("agent", "gateway", "minimal", "postgres")
_NEXT = {
    "agent": "switchboard agent update NAME --placement docker",
    "minimal": "switchboard runtimes push {image} --name minimal --providers openai,anthropic --capabilities steer",
}


@runtimes.command(
    "build", examples=("switchboard runtimes build --base local", "switchboard runtimes build gateway minimal --json")
)
@click.argument("names", nargs=-1, type=click.Choice(IMAGES), metavar="[agent|gateway|minimal|postgres]...")
@click.option(
    "--all", "every", is_flag=True, help="All four: what agents run in, the gateway, the reference runtime, PostgreSQL."
)
@click.option("--base", metavar="IMAGE", help="Build on this image; `local`: on one made of this machine's own programs.")
@as_json
def build(out: Output, names: tuple[str, ...], every: bool, base: str | None) -> None:
    """Build images on the container engine of DOCKER_HOST; by default the one agents run in.

    Works in a checkout, whose npm and Python packages go into the images. One that is there already is not built again.
    """
    command = [sys.executable, str(_program()), "--json", *(["--base", base] if base else [])]
    images = []
    for line in _lines([*command, *(IMAGES if every else names or ("agent",))]):
        if "error" in line:
            raise RuntimeUnavailable(line["error"]["message"], line["error"]["hint"])
        if "says" in line:
            out.say(f"{line['name']}: {line['says']}")
        else:
            images.append(line)
    if out.json:
        return out.data({"images": images})
    for one in images:
        state = "built" if one["built"] else "there already"
        following = _NEXT.get(one["name"], "").format(image=one["image"])
        out.done(f"{one['image']}, on {one['base']}: {state}", *filter(None, [following]))
    return None


def _program() -> Path:
    program = Path(gateway.__path__[0]).parent / "docker/build.py"
    if not program.is_file():
        mend = "Run this in a checkout, or set SWITCHBOARD_AGENT_IMAGE to an image that has the CLIs."
        raise RuntimeUnavailable("Switchboard was installed without the files its images are built of.", mend)
    return program


def _lines(command: list[str]) -> Iterator[dict[str, Any]]:
    """What the builder says, until it has ended. It goes with us."""
    flush()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            for text in process.stdout:
                yield json.loads(text)
            code = process.wait()
        finally:
            process.terminate()
    if code:
        raise RuntimeUnavailable(f"The build ended with {code}.", "See above.")
