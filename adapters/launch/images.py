"""What a container engine knows an image by for good, and how one that lacks it gets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from errno import ENOENT
from typing import Any

from docker.client import DockerClient
from docker.errors import APIError, ImageNotFound

from adapters.launch.container import Engine
from adapters.launch.process import LaunchError

_REGISTRY = "@sha256:"  # in the name of an image that a registry has


async def digest_of(engine: Engine, image: str) -> str:
    """`name@sha256:...` of an image that came from a registry or went there, which every engine can get; else the id of
    what this engine alone has. Raises LaunchError.
    """
    found = await engine.call(lambda client: _digest(client, image))
    if found is None:
        said = f"The image {image[:200]!r} is not on the container engine at {engine.url}."
        raise LaunchError(ENOENT, f"{said} Build it there (docker build -t {image[:200]} .) or pull it.")
    return found


async def is_there(engine: Engine, image: str) -> bool:
    """Raises LaunchError where the engine does not answer."""
    return await engine.call(lambda client: _found(client, image) is not None)


async def pull(engine: Engine, image: str) -> None:
    """Get an image from its registry by its digest, never by a name that may mean another one tomorrow. Raises LaunchError.

    What its registry asks for in credentials is what `docker login` has written for the gateway's user.
    """
    missing = f"The image {image!r} is not on the container engine at {engine.url}"
    name, registry, digest = image.partition(_REGISTRY)
    if not registry:
        mend = "Push it to a registry that every engine reaches (docker push), then again: switchboard runtimes push"
        raise LaunchError(ENOENT, f"{missing}, and it was pushed by its id, which no other engine knows. {mend}")
    why = await engine.call(lambda client: _pulled(client, name, f"sha256:{digest}"), long=True)
    if why:
        mend = "Push it there again, or another version: switchboard runtimes push"
        raise LaunchError(ENOENT, f"{missing}, which did not get it from its registry: {why}. {mend}")


def _pulled(client: DockerClient, name: str, digest: str) -> str:
    """Why it could not be had; "" once it is there."""
    try:
        said: Iterator[Mapping[str, Any]] = client.api.pull(name, digest, stream=True, decode=True)
        return "; ".join(str(line["error"]) for line in said if "error" in line)
    except APIError as exc:
        return str(exc.explanation or exc)


def _found(client: DockerClient, image: str) -> Any:
    try:
        return client.images.get(image)
    except ImageNotFound:
        return None


def _digest(client: DockerClient, image: str) -> str | None:
    found = _found(client, image)
    if found is None:
        return None
    digests: list[str] = found.attrs.get("RepoDigests") or []
    name = image.partition("@")[0]
    same = [one for one in digests if one.partition("@")[0] in (name, name.rpartition(":")[0])]
    return next(iter([*same, *digests]), str(found.id))
