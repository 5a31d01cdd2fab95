"""Stops a turn that takes too long, or is silent for too long, and says which."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio

from adapters.dialogue import Cause, Dialogue
from gateway.settings import Settings


class Watchdog:
    """Of one attempt. `limits` are its agent's; `used`: seconds that earlier attempts have taken of `turn_seconds`."""

    def __init__(self, limits: Mapping[str, Any], settings: Settings, used: float) -> None:
        self.seconds = float(limits.get("turn_seconds") or settings.turn_seconds) - used  # that are left to the turn
        self._silence = float(limits.get("stall_seconds") or settings.stall_seconds)
        self._heard_at = time.monotonic()

    def heard(self) -> None:
        """The runtime has said something."""
        self._heard_at = time.monotonic()

    async def watch(self, dialogue: Dialogue) -> tuple[Cause, str]:
        """Wait until it is too much; answers why the turn is to end, and what its owner should know."""
        self.heard()
        limit = time.monotonic() + self.seconds
        while True:
            now = time.monotonic()
            if now >= limit:
                return "deadline_exceeded", ""
            if now >= self._heard_at + self._silence:
                return "stalled", self._seems(dialogue)
            await anyio.sleep(min(limit, self._heard_at + self._silence) - now)

    def _seems(self, dialogue: Dialogue) -> str:
        """What a runtime that says nothing seems to do."""
        said = f"no output for too long ({time.monotonic() - self._heard_at:.3g} s)"
        if dialogue.asked:
            return f"{said}: it waits for a permission or an answer ({dialogue.asked})"
        tools = ", ".join(dialogue.open_tools)
        return f"{said} while a tool runs ({tools})" if tools else said
