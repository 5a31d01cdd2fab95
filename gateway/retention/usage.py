"""What turns used together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_NAMES = ("input_tokens", "output_tokens", "cached_tokens", "cost_usd")


class Usage:
    """Sums of `usage` events; the cost is None where none told it."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = dict.fromkeys(_NAMES, 0)
        self._cost_told = False

    def add(self, body: str | Mapping[str, Any]) -> None:
        used: Mapping[str, Any] = json.loads(body) if isinstance(body, str) else body
        for name in _NAMES:
            self._totals[name] += used.get(name) or 0
        self._cost_told = self._cost_told or used.get("cost_usd") is not None

    def to_json(self) -> dict[str, Any]:
        return {**self._totals, "cost_usd": round(self._totals["cost_usd"], 6) if self._cost_told else None}
