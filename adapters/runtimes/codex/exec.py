"""`codex exec --json` as a dialogue: one process, one turn, the prompt on stdin, whole messages and no deltas.

Deliberate: an `error` line tells of a retry ("Reconnecting... n/5") or repeats the `turn.failed` after it; it never ends
a turn. An `error` item is a warning. Errors carry no code: see `failures`. An interrupt is not possible, the process
has to be ended.
"""

from __future__ import annotations

from typing import Any

from adapters import events as ev
from adapters.dialogue import Step, Turn
from adapters.events import Event
from adapters.runtimes.codex import failures, tools
from adapters.runtimes.codex.thread import CodexDialogue

RETRYING = "Reconnecting..."


class ExecDialogue(CodexDialogue):
    def on_start(self, turn: Turn) -> list[bytes]:
        return [turn.prompt.encode("utf-8", "replace")]

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        return Step(self._on(message, line) if self.running else [self.keep(line, "after the end")], [])

    def _on(self, message: dict[str, Any], line: bytes) -> list[Event]:
        match message.get("type"):
            case "thread.started":
                self._thread = message["thread_id"]
                return self.session(self._thread)
            case "turn.started":
                return []
            case "item.started" | "item.updated" | "item.completed" as kind:
                return self.on_item(kind.removeprefix("item."), tools.snake(message["item"]), line)
            case "error":
                return self._on_error(message["message"])
            case "turn.completed":
                self.count(message["usage"])
                return self.end("completed")
            case "turn.failed":
                return self.end("failed", failures.failure_of_text(message["error"]["message"]))
            case _:
                return [self.keep(line, "unknown line")]

    def _on_error(self, text: str) -> list[Event]:
        if text.startswith(RETRYING):
            return self.on_retry(text)
        self._error = text
        return [ev.notice("error", text)]
