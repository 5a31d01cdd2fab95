"""What a container engine knows an image by for good."""

from __future__ import annotations

from errno import ENOENT

from docker.client import DockerClient
from docker.errors import ImageNotFound

from adapters.launch.container import Engine
from adapters.launch.process import LaunchError


async def digest_of(engine: Engine, image: str) -> str:
    """`name@sha256:...` of an image that came from a registry or went there, which every engine can get; else the id of
    what this engine alone has. Raises LaunchError.
    """
    found = await engine.call(lambda client: _digest(client, image))
    if found is None:
        said = f"The image {image[:200]!r} is not on the container engine at {engine.url}."
        raise LaunchError(ENOENT, f"{said} Build it there (docker build -t {image[:200]} .) or pull it.")
    return found


def _digest(client: DockerClient, image: str) -> str | None:
    try:
        found = client.images.get(image)
    except ImageNotFound:
        return None
    digests: list[str] = found.attrs.get("RepoDigests") or []
    name = image.partition("@")[0]
    same = [one for one in digests if one.partition("@")[0] in (name, name.rpartition(":")[0])]
    return next(iter([*same, *digests]), str(found.id))
