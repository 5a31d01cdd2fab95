"""What an image is known by, and how an engine that lacks it gets it: with a client of ours, no registry is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import ImageNotFound

from adapters.launch.container import Box, _created
from adapters.launch.images import _digest

DIGEST = f"registry.example.com/mine@sha256:{'1' * 64}"


@dataclass
class Client:
    """As much of the SDK's as is used. `here`: images the engine has."""

    here: dict[str, list[str]]
    pulled: list[str] = field(default_factory=list)

    @property
    def images(self) -> Any:
        return SimpleNamespace(get=self._get, pull=self._pull)

    @property
    def containers(self) -> Any:
        return SimpleNamespace(create=lambda image, **_: self._get(image))

    def _get(self, image: str) -> Any:
        if image not in self.here:
            raise ImageNotFound(f"No such image: {image}")
        return SimpleNamespace(id="sha256:of-this-engine", attrs={"RepoDigests": self.here[image]})

    def _pull(self, image: str) -> None:
        self.pulled.append(image)
        self.here[image] = []


def box(image: str) -> Box:
    return Box(image, (), {}, "/", ())


def test_an_image_is_known_by_its_digest_in_a_registry_else_by_its_id() -> None:
    other = f"elsewhere.example.com/mine@sha256:{'2' * 64}"
    client: Any = Client({"registry.example.com/mine:1": [other, DIGEST], "mine:1": []})
    assert _digest(client, "registry.example.com/mine:1") == DIGEST
    assert _digest(client, "mine:1") == "sha256:of-this-engine"
    assert _digest(client, "nobody:1") is None


def test_an_engine_that_lacks_an_image_gets_it_by_its_digest_once() -> None:
    client = Client({})
    for _ in range(2):
        _created(client, box(DIGEST))  # type: ignore[arg-type]
    assert client.pulled == [DIGEST]


@pytest.mark.parametrize("image", ["mine:1", "sha256:1"])
def test_nothing_is_got_by_a_name_that_may_mean_another_image_tomorrow(image: str) -> None:
    client = Client({})
    with pytest.raises(ImageNotFound):
        _created(client, box(image))  # type: ignore[arg-type]
    assert client.pulled == []
