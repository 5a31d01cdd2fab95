"""The models there are known to be, as data: `models.json` holds provider -> model id -> name.

Models appear faster than releases of this program, so the catalogue advises and never decides: an id it lacks is
accepted with a warning as long as its provider is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Model(NamedTuple):
    provider: str
    model_id: str
    name: str

    @property
    def id(self) -> str:
        """The canonical `provider/model_id`."""
        return f"{self.provider}/{self.model_id}"


@cache
def models() -> Mapping[str, Model]:
    """Every model of the catalogue by its canonical id, in the file's order."""
    data = json.loads(files(__name__).joinpath("models.json").read_text(encoding="utf-8"))
    found = (Model(provider, model, name) for provider, ids in data.items() for model, name in ids.items())
    return {model.id: model for model in found}


def providers() -> frozenset[str]:
    return frozenset(model.provider for model in models().values())


def canonical(model_id: str) -> str | None:
    """The canonical id of a bare `model_id`, if the catalogue knows it."""
    return next((model.id for model in models().values() if model.model_id == model_id), None)
