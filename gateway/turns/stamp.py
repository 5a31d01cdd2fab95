"""What a dialogue tells, as it goes into the log."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from adapters import events as ev
from adapters.events import Event
from gateway.log.store import merged
from gateway.turns.launching import Place
from gateway.turns.native import Native
from gateway.turns.veil import Veil


class Stamp:
    """Fills in what only the runner knows: durations and the runtime's session; and draws the veil over paths."""

    def __init__(self, place: Place, native: Native) -> None:
        self._native = native
        self._began: dict[str, float] = {}  # open calls
        self._veil = Veil(place.shown)

    def all(self, events: list[Event]) -> list[Event]:
        return [stamped for event in merged(events) for stamped in self._one(event)]

    def rest(self) -> list[Event]:
        """Text that was held back, because it may be the beginning of a path."""
        held = self._veil.rest()
        return [ev.chunk(held)] if held else []

    def _one(self, event: Event) -> list[Event]:
        if event.type == "chunk":
            text = self._veil.text(event.body["text"])
            return [ev.chunk(text)] if text else []
        if event.level == "internal":
            if event.type == "native_session":
                self._native.remember(native_session=event.body["id"])
            return [event]
        shown = replace(event, body=self._timed(event.type, self._veil.clean(event.body)))
        return [*self.rest(), shown]

    def _timed(self, type: str, body: dict[str, Any]) -> dict[str, Any]:
        if type == "tool_start":
            self._began[body["call_id"]] = time.monotonic()
        elif type == "tool_result":
            began = self._began.pop(body["call_id"], None)
            body["duration_ms"] = None if began is None else round((time.monotonic() - began) * 1000)
        return body
