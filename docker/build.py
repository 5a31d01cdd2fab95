"""Builds images through the engine DOCKER_HOST names: `switchboard-agent`, `-gateway`, `-minimal` and `-postgres`.

    python docker/build.py agent gateway
    python docker/build.py --base local agent     # on a base of this machine's own programs: no registry is asked

What an image is made of decides its tag, and it is `latest`, too; one that is there already is not built again. What it
needs is copied from here, where `make` has installed it as this machine's npm and pip are set up, by the hashes of the
lock files: a build needs no network, and no address of an index gets into an image. So this machine has to be such as
its containers: Linux, with glibc.

`make images` and `switchboard runtimes build` both run this; the latter with --json, which prints JSON Lines:

    {"name", "says"}                               how far it is
    {"name", "image", "id", "base", "built"}       an image that is there now; `built`: it was not before
    {"error": {"message", "hint"}}
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import requests
from base import Failed, local_base
from contents import IMAGES, Contents, Made
from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from docker.utils import parse_repository_tag

LAST_WORDS = 10  # lines of a build that failed
OTHER_BASE = "Name another (--base IMAGE), or have one made of this machine's own programs: --base local"

Say = Callable[[str], None]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build Switchboard's images.")
    parser.add_argument("--base", help="the image to build on, or `local`: one made of this machine's programs")
    parser.add_argument("--json", action="store_true", help="JSON Lines, as the docstring has them")
    parser.add_argument("names", nargs="+", choices=["base", *IMAGES])
    given = parser.parse_args()
    try:
        with closing(engine()) as client:
            for name in given.names:
                made = image_of(client, name, given.base, lambda text, name=name: said(given.json, name, text))
                print(json.dumps({"name": name, **made}) if given.json else made["image"], flush=True)
    except Failed as exc:
        if given.json:
            print(json.dumps({"error": {"message": exc.message, "hint": exc.hint}}))
        else:
            print(exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def said(as_json: bool, name: str, text: str) -> None:
    if as_json:
        print(json.dumps({"name": name, "says": text}), flush=True)
    elif sys.stderr.isatty():
        print(f"{name}: {text}", file=sys.stderr, flush=True)


def engine() -> DockerClient:
    try:
        return DockerClient.from_env(timeout=600)
    except (DockerException, requests.RequestException, OSError) as exc:
        url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        raise Failed(f"The container engine at {url} does not answer: {exc}.", "Start it, or set DOCKER_HOST.") from exc


def image_of(client: DockerClient, name: str, base: str | None, say: Say) -> dict[str, Any]:
    """An image, built unless it is there. Raises Failed."""
    if name == "base":
        tag = local_base(client)
        return {"image": tag, "id": client.images.get(tag).id, "base": None, "built": False}
    made = IMAGES[name]
    contents = made.contents()
    on = base_of(client, base or made.base, made, say)
    facts = hashlib.sha256(b"\0".join([on.encode(), made.dockerfile.read_bytes(), *contents.facts])).hexdigest()
    tag = f"switchboard-{name}:{facts[:16]}"
    lacking = not is_there(client, tag)
    if lacking:
        build(client, made, contents, tag, on, say)
    image = client.images.get(tag)
    image.tag(f"switchboard-{name}", "latest")
    return {"image": tag, "id": image.id, "base": on, "built": lacking}


def base_of(client: DockerClient, base: str, made: Made, say: Say) -> str:
    """A base image that is there. Raises Failed."""
    if base == "local":
        say("making a base of this machine's programs, unless it is there")
        return local_base(client, made.more)
    if not is_there(client, base):
        say(f"getting the base {base} from its registry")
        repository, tag = parse_repository_tag(base)
        if why := failing(lambda: client.api.pull(repository, tag or "latest", stream=True, decode=True), lambda text: None):
            raise Failed(f"The container engine has no base image {base!r}, and could not get it: {why}.", OTHER_BASE)
    return base


def is_there(client: DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def build(client: DockerClient, made: Made, contents: Contents, tag: str, base: str, say: Say) -> None:
    """Raises Failed, with the last words of the build."""
    words: list[str] = []

    def heard(text: str) -> None:
        words.append(text)
        if text.startswith("Step "):
            say(text)

    say("putting together what it is made of")
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(made.dockerfile, "Dockerfile")
            contents.fill(tar)
        size = file.tell()
        file.seek(0)
        say(f"sending {size / 1e6:.0f} MB to the engine")
        how: dict[str, Any] = {"custom_context": True, "rm": True, "forcerm": True, "network_mode": "none"}
        about = {"fileobj": file, "tag": tag, "buildargs": {"BASE_IMAGE": base}, "decode": True}
        if why := failing(lambda: client.api.build(**about, **how), heard):
            raise Failed("\n".join([*words[-LAST_WORDS:], f"{tag} could not be built on {base}: {why}."]), OTHER_BASE)


def failing(what: Callable[[], Iterable[dict[str, Any]]], heard: Say) -> str:
    """Why a call that tells how far it is came to nothing; "" where it did not."""
    try:
        for line in what():
            if "error" in line:
                return str(line["error"]).rstrip(".\n")
            if text := str(line.get("stream", "")).strip():
                heard(text)
    except APIError as exc:
        return str(exc.explanation or exc).rstrip(".\n")
    return ""


if __name__ == "__main__":
    sys.exit(main())
