"""What an image is known by, and what is said where an engine cannot get it; tests/gateway/runtime_api has the rest."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from errno import ENOENT
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound

from adapters.launch.container import Engine
from adapters.launch.images import _digest, pull
from adapters.launch.process import LaunchError
from tests import needs
from tests.support import free_port

DIGEST = f"registry.example.com/mine@sha256:{'1' * 64}"


@dataclass
class Client:
    """As much of the SDK's as is used. `here`: images the engine has."""

    here: dict[str, list[str]]

    @property
    def images(self) -> Any:
        return SimpleNamespace(get=self._get)

    def _get(self, image: str) -> Any:
        if image not in self.here:
            raise ImageNotFound(f"No such image: {image}")
        return SimpleNamespace(id="sha256:of-this-engine", attrs={"RepoDigests": self.here[image]})


def test_an_image_is_known_by_its_digest_in_a_registry_else_by_its_id() -> None:
    other = f"elsewhere.example.com/mine@sha256:{'2' * 64}"
    client: Any = Client({"registry.example.com/mine:1": [other, DIGEST], "mine:1": []})
    assert _digest(client, "registry.example.com/mine:1") == DIGEST
    assert _digest(client, "mine:1") == "sha256:of-this-engine"
    assert _digest(client, "nobody:1") is None


@pytest.mark.parametrize("image", ["mine:1", "sha256:1"])
async def test_nothing_is_got_by_a_name_that_may_mean_another_image_tomorrow(image: str) -> None:
    with closing(Engine({"DOCKER_HOST": "unix:///nobody"})) as engine, pytest.raises(LaunchError) as refused:
        await pull(engine, image)
    assert (refused.value.errno, "docker push" in str(refused.value)) == (ENOENT, True)


async def test_a_registry_that_does_not_answer_is_told_with_what_the_engine_says() -> None:
    needs.an_engine("base")
    image = f"127.0.0.1:{free_port()}/mine@sha256:{'1' * 64}"
    with closing(Engine(os.environ)) as engine, pytest.raises(LaunchError) as refused:
        await pull(engine, image)
    assert (refused.value.errno, image in str(refused.value)) == (ENOENT, True)
    assert "connection refused" in str(refused.value)
