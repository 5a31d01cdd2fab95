"""Images made here, on the engine there is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from docker.client import DockerClient


def built(client: DockerClient, tag: str, files: Mapping[str, bytes], args: Mapping[str, str] | None = None) -> str:
    """The id of what the `Dockerfile` among the files makes of them."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        file.seek(0)
        how = {"custom_context": True, "rm": True, "forcerm": True, "buildargs": dict(args or {})}
        image, _ = client.images.build(fileobj=file, tag=tag, **how)
    return str(image.id)
