"""What a turn may use: its agent's limits and its session's, the stricter of each, watched as the stream shows them.

meter = Meter(limits, spent, used)  what the session's turns have used, and this turn in earlier attempts
meter.before()                    Over, if the session may have no more turns, tokens or money
events, over = meter.read(...)    the events of a line, without output beyond the limit, and the limit they reach
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from adapters import events as ev
from adapters.dialogue import Dialogue, Spent
from adapters.events import Event
from gateway.errors import InvalidParams
from gateway.turns.leases import NOTHING, Used
from registry import rules

USED = ("input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class Over:
    """A limit that was reached: how the turn ends, and what its owner is told."""

    cause: Literal["budget_exceeded", "max_turns"]
    why: str

    def ending(self, events: list[Event]) -> list[Event]:
        """A turn's last events, its `done` being that it reached the limit."""
        said = [event for event in events if event.type != "done"]
        return [*said, ev.error_detail("budget_exceeded", self.why), ev.done(self.cause, "budget_exceeded")]


def of_session(given: Mapping[str, Any]) -> dict[str, Any]:
    """Limits for a single session, checked. Raises InvalidParams."""
    try:
        rules.check_session_limits(given)
    except rules.Invalid as exc:
        raise InvalidParams(exc.message, exc.hint) from exc
    return dict(given)


def stricter(*limits: Mapping[str, Any]) -> dict[str, Any]:
    """Of every limit the lowest."""
    out: dict[str, Any] = {}
    for each in limits:
        for name, value in each.items():
            out[name] = min(value, out.get(name, value))
    return out


def added(spent: Mapping[str, Any], used: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`spent` with what `usage` events tell added."""
    out = dict(spent)
    for body in used:
        for name in USED:
            out[name] = out.get(name, 0) + (body.get(name) or 0)
    return out


class Meter:
    """`spent`: what the session has used, this turn counted among its turns."""

    def __init__(self, limits: Mapping[str, Any], spent: Mapping[str, Any], used: Used = NOTHING) -> None:
        self._limits, self._spent, self._before = limits, spent, used
        self._bytes, self._tools = used.bytes, used.tools
        self._told: Mapping[str, Any] = {}  # by `usage` events
        self._counts = any(name.endswith(("_tokens", "_cost_usd")) for name in limits)

    def before(self) -> Over | None:
        """Whether the turn may begin."""
        if self._spent.get("turns", 0) > self._limits.get("session_turns", float("inf")):
            return Over("max_turns", f"the session has had its {self._limits['session_turns']} turns (limit session_turns)")
        spent = Spent(*(self._spent.get(name, 0) for name in USED))
        return self._money("session", spent, least=1)

    def read(self, events: list[Event], dialogue: Dialogue) -> tuple[list[Event], Over | None]:
        """The events that may be told, and the limit they reach. Output beyond it is not told, everything else is."""
        out: list[Event] = []
        over: Over | None = None
        for event in events:
            reached = self._count(event)
            out += [event] if reached is None or event.type == "tool_start" else self._fitting(event)
            over = over or reached
        return out, over or (self._used(dialogue.spent) if self._counts and dialogue.running else None)

    def unsaid(self, last: list[Event], spent: Spent) -> list[Event]:
        """What a turn that was stopped has used and no `usage` event tells, also not one of its last events."""
        for event in last:
            self._count(event)
        rest = {name: round(getattr(spent, name) - self._told.get(name, 0), 9) for name in USED}
        return [ev.usage(**rest)] if any(value > 0 for value in rest.values()) else []

    def _count(self, event: Event) -> Over | None:
        if event.type == "tool_start":
            self._tools += 1
            return self._over("tool_calls", self._tools, "tools were used")
        if event.type in ("chunk", "artifact"):
            self._bytes += size_of(event.type, event.body)
            return self._over("output_bytes", self._bytes, "bytes were told")
        if event.type == "usage":
            self._told = added(self._told, [event.body])
        return None

    def _fitting(self, chunk: Event) -> list[Event]:
        """The beginning of a text that fits into the limit, without breaking a character; nothing of an artifact."""
        room = size_of(chunk.type, chunk.body) - (self._bytes - self._limits["output_bytes"])
        if chunk.type != "chunk" or room <= 0:
            return []
        text = chunk.body["text"].encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
        return [ev.chunk(text)] if text else []

    def _used(self, spent: Spent) -> Over | None:
        before = self._spent
        all_turns = Spent(
            before.get("input_tokens", 0) + spent.input_tokens,
            before.get("output_tokens", 0) + spent.output_tokens,
            before.get("cost_usd", 0) + spent.cost_usd,
        )
        before_this = self._before
        turn = Spent(spent.input_tokens + before_this.tokens, spent.output_tokens, spent.cost_usd + before_this.cost_usd)
        return self._money("turn", turn) or self._money("session", all_turns)

    def _money(self, what: str, spent: Spent, least: int = 0) -> Over | None:
        """`least`: 1 where what is used up is enough, 0 where it has to be passed."""
        tokens = spent.input_tokens + spent.output_tokens
        over = self._over(f"{what}_tokens", tokens + least, "tokens were used")
        return over or self._over(f"{what}_cost_usd", round(spent.cost_usd + least * 1e-9, 9), "dollars were spent")

    def _over(self, name: str, value: float, what: str) -> Over | None:
        limit = self._limits.get(name)
        if limit is None or value <= limit:
            return None
        return Over("budget_exceeded", f"more than {limit} {what} (limit {name})")


def size_of(type: str, body: Mapping[str, Any]) -> int:
    """Bytes a caller would read of a `chunk` or an `artifact`."""
    if type == "chunk":
        return len(body["text"].encode("utf-8", "replace"))
    return len(json.dumps(body["parts"], ensure_ascii=False).encode("utf-8", "replace"))
