"""What both ways of speaking to the runtime share: items, text without repetition, token totals, failures.

The runtime counts tokens per thread, over all its processes: `memory` keeps the totals at the end of a turn, so that
the next turn (often in another process) can subtract them. Tokens of a turn whose totals were never told (it failed or
was stopped) are counted in the next one. `input_tokens` contains the cached ones, as this vendor counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters import events as ev
from adapters.calls import Named
from adapters.dialogue import Dialogue, Exit, Failure, Step, Turn
from adapters.events import Event, YieldReason
from adapters.runtimes.codex import failures, tools

_COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cached_tokens": "cached_input_tokens",
    "reasoning_tokens": "reasoning_output_tokens",
}
_SILENT = frozenset(
    {
        "user_message",
        "hook_prompt",
        "function_call_output",
        "sub_agent_activity",
        "sleep",
        "entered_review_mode",
        "exited_review_mode",
    }
)


class Told:
    """Text of the model without what a repeated request says again.

    A broken request is sent anew and tells its text a second time. As long as the new attempt says what the broken one
    said, nothing is passed on; where it differs, it is passed on whole.
    """

    def __init__(self) -> None:
        self._now = self._before = ""

    def hear(self, text: str) -> str:
        self._now += text
        if not self._before:
            return text
        if self._before.startswith(self._now):
            return ""
        before, self._before = self._before, ""
        return self._now.removeprefix(before)

    def again(self) -> None:
        """The request is about to be repeated."""
        self._before, self._now = self._before or self._now, ""

    def settle(self) -> None:
        """What was said so far will not be said again."""
        self._now = self._before = ""


class CodexDialogue(Dialogue):
    """The part of a dialogue that does not depend on how lines are framed."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id)
        self._thread: str | None = None
        self._told = Told()
        self._pieces: dict[str, str] = {}  # item id -> what its deltas said so far
        self._totals: dict[str, int] | None = None
        self._plan: list[dict[str, str]] = []
        self._plans = 0
        self._error = ""

    def start(self, turn: Turn) -> Step:
        self._told.settle()
        self._pieces.clear()
        self._totals, self._plan, self._error = None, [], ""
        return super().start(turn)

    # -- items

    def on_item(self, stage: str, item: Mapping[str, Any], line: bytes) -> list[Event]:
        """An item that `started`, was `updated` or is `completed`, its keys in snake_case."""
        completed = stage == "completed"
        match item["type"]:
            case "agent_message":
                return self.on_message_text(item["id"], item["text"]) if completed else []
            case "reasoning":
                return self._on_reasoning(item) if completed else []
            case "todo_list":
                return self.on_plan(item["items"])
            case "plan":
                return self.on_plan([{"text": item["text"]}]) if completed else []
            case "error":
                return [ev.notice("warning", item["message"])]
            case "context_compaction":
                return [ev.notice("compaction", "the conversation was summarised")] if completed else []
            case kind if kind in _SILENT:
                return []
        call = tools.call_of(item)
        if call is None and item["type"] != "web_search":
            return [self.keep(line, "unknown item")]
        return self._on_call(item, call or Named("web_search", {}), completed) if call or completed else []

    def _on_call(self, item: Mapping[str, Any], call: Named, completed: bool) -> list[Event]:
        self._told.settle()
        out = self.tool_start(item["id"], call.tool, call.input, vendor_tool=call.vendor)
        return [*out, *self._close(item)] if completed else out

    def _close(self, item: Mapping[str, Any]) -> list[Event]:
        result = tools.result_of(item)
        out = self.tool_result(item["id"], result.output, is_error=result.is_error, exit_code=result.exit_code)
        if out and result.detail:
            out.append(ev.tool_detail(out[0].body["call_id"], output=result.detail))
        return out

    def on_plan(self, steps: list[Mapping[str, Any]]) -> list[Event]:
        """The plan as it is now; one that says nothing new is passed over."""
        items = tools.plan_items(steps)
        if items == self._plan:
            return []
        self._plan = items
        self._plans += 1
        id = f"plan {self._plans}"
        return [*self.tool_start(id, "plan", {"items": items}), *self.tool_result(id, "")]

    # -- text

    def on_piece(self, id: str, text: str) -> list[Event]:
        self._pieces[id] = self._pieces.get(id, "") + text
        return self._say(text)

    def on_message_text(self, id: str, text: str) -> list[Event]:
        """A whole message: only what its deltas have not said."""
        said = self._pieces.pop(id, "")
        return self._say(text[len(said) :]) if text.startswith(said) else []

    def _say(self, text: str) -> list[Event]:
        new = self._told.hear(text)
        return [ev.chunk(new)] if new else []

    def on_thought(self, id: str, text: str) -> list[Event]:
        self._pieces[id] = self._pieces.get(id, "") + text
        return [ev.thinking(text)] if text else []

    def _on_reasoning(self, item: Mapping[str, Any]) -> list[Event]:
        said = self._pieces.pop(item["id"], "")
        text = item["text"] if "text" in item else "\n\n".join(item.get("summary") or item.get("content") or ())
        return [ev.thinking(text)] if text and not said else []

    # -- errors and the end of a turn

    def on_retry(self, text: str) -> list[Event]:
        self._told.again()
        return [ev.notice("retry", text)]

    def count(self, totals: Mapping[str, Any]) -> None:
        """Totals of the thread so far, keys in snake_case."""
        self._totals = {ours: int(totals.get(theirs) or 0) for ours, theirs in _COUNTS.items()}
        turn = self._of_turn(self._totals)
        self.spent.input_tokens, self.spent.output_tokens = turn["input_tokens"], turn["output_tokens"]

    def _of_turn(self, totals: Mapping[str, int]) -> dict[str, int]:
        """The thread's totals without those of the turns before."""
        known = self.memory.get("totals") or {}
        before = known if self.memory.get("thread") == self._thread else {}
        if any(totals[name] < before.get(name, 0) for name in totals):
            before = {}  # the thread was counted anew
        return {name: total - before.get(name, 0) for name, total in totals.items()}

    def used(self) -> list[Event]:
        """What this turn used, and the totals noted for the next one."""
        if self._totals is None:
            return []
        turn = self._of_turn(self._totals)
        self.memory = {"thread": self._thread, "totals": self._totals}
        return [ev.usage(**turn)]

    def end(self, reason: YieldReason, failure: Failure | None = None, *before: Event) -> list[Event]:
        return super().end(reason, failure, *before, *self.used()) if self.running else []

    def failure_of_exit(self, exit: Exit) -> Failure:
        """No last word: what the runtime said of it before or, where stdout is empty, on stderr."""
        stderr = failures.useful(exit.stderr)
        how = super().failure_of_exit(Exit(exit.code, exit.signal, stderr))
        category = failures.category_of_text(self._error or ("" if self.lines else stderr))
        return Failure(category or how.category, f"{self._error}\n{how.text}".strip())
