"""The CLI's print mode: `--output-format stream-json`, the prompt on stdin, one turn a process.

Deliberate oddities:
- A prompt that begins with `/` gets a space before it: else it would be a command of the CLI and never reach the model.
- `@path` in a prompt is left alone: the CLI adds the content of a file of that name, if the workspace has one, and
  does not alter the words. Every way of escaping it would alter the words of code and of addresses with an @.
- Text told twice after a broken stream: see `retold`. Exit codes of commands: see `tools`.
- A loop the CLI has detected ends the turn as `max_turns`: it calls the unfinished answer a success.
- SIGTERM ends it with exit code 0 and no `result`: a process gone without a result has crashed, whatever its code.
- Thinking is never printed. MAX_TOKENS and most safety stops look like success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters import events as ev
from adapters.dialogue import Dialogue, Exit, Failure, Step, Turn
from adapters.events import Event
from adapters.runtimes.gemini import failures, tools
from adapters.runtimes.gemini.retold import Retold

_LOOP = "Loop detected"
_TURN_LIMITS = ("FatalTurnLimitedError", "Maximum session turns exceeded")


def as_text(prompt: str) -> str:
    """`prompt` so that the CLI does not take it for a command."""
    return f" {prompt}" if prompt.startswith("/") else prompt


class PrintDialogue(Dialogue):
    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id)
        self._answer = Retold()
        self._tools: dict[str, str] = {}  # vendor call id -> canonical tool
        self._errors: list[str] = []

    def on_start(self, turn: Turn) -> list[bytes]:
        self._answer = Retold()
        self._tools, self._errors = {}, []
        return [as_text(turn.prompt).encode("utf-8", "replace")]

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if not self.running:
            return Step([self.keep(line, "outside a turn")], [])
        events = self._read(message)
        return Step([self.keep(line, "unknown type")] if events is None else events, [])

    def _read(self, message: Mapping[str, Any]) -> list[Event] | None:
        match message.get("type"):
            case "init":
                return self.session(message["session_id"])
            case "message":
                return self._said(message)
            case "tool_use":
                return self._called(message)
            case "tool_result":
                return self._returned(message)
            case "error":
                self._errors.append(str(message["message"]))
                return [ev.notice(str(message.get("severity") or "error"), self._errors[-1])]
            case "result":
                return self._ended(message)
        return None

    def _said(self, message: Mapping[str, Any]) -> list[Event]:
        if message["role"] == "user":
            return []
        text, dropped = self._answer.feed(str(message["content"]), str(message.get("timestamp")))
        return [*_retold(dropped), *_chunk(text)]

    def _called(self, message: Mapping[str, Any]) -> list[Event]:
        servers = [str(server["name"]) for server in (self.turn.mcp_servers if self.turn else ())]
        id, (tool, input, vendor) = str(message["tool_id"]), tools.call(message["tool_name"], message["parameters"], servers)
        self._tools[id] = tool
        events = self.tool_start(id, tool, input, vendor_tool=vendor)
        if events and tool == "other" and message["parameters"]:
            events.append(ev.tool_detail(events[0].body["call_id"], vendor_input=message["parameters"]))
        return [*_chunk(self._answer.release()), *events]

    def _returned(self, message: Mapping[str, Any]) -> list[Event]:
        id = str(message["tool_id"])
        error = message.get("error") or ({} if message.get("status") == "error" else None)
        said = tools.result(self._tools.get(id, "other"), str(message.get("output") or ""), error)
        events = self.tool_result(id, said.output, is_error=said.is_error, exit_code=said.exit_code, truncated=said.truncated)
        if said.detail and events:
            events[1:] = [ev.tool_detail(events[0].body["call_id"], output=said.detail)]
        return events

    def _ended(self, message: Mapping[str, Any]) -> list[Event]:
        used = _usage(message.get("stats") or {})
        if message["status"] == "success":
            events = _chunk(self._answer.release())
            if any(_LOOP in error for error in self._errors):
                return [*events, *self.end("max_turns", Failure("budget_exceeded", _LOOP), *used)]
            return [*events, *self.end("completed", None, *used)]
        error = message.get("error") or {}
        text = str(error.get("message") or "\n".join(self._errors) or "the result says error")
        events = _retold(self._answer.drop())
        if error.get("type") in _TURN_LIMITS or any(error in _TURN_LIMITS for error in self._errors):
            return [*events, *self.end("max_turns", Failure("budget_exceeded", text), *used)]
        return [*events, *self.end("failed", failures.of_result(text), *used)]

    def finish(self, exit: Exit) -> list[Event]:
        held = self._answer.release() if self.running else ""
        return [*_chunk(held), *super().finish(exit)]

    def failure_of_exit(self, exit: Exit) -> Failure:
        if "heap out of memory" in exit.stderr:
            return Failure("out_of_memory", exit.stderr)
        known = failures.of_start(exit) if not self.lines or exit.code else None
        return known or super().failure_of_exit(exit)


def _chunk(text: str) -> list[Event]:
    return [ev.chunk(text)] if text else []


def _retold(text: str) -> list[Event]:
    return [ev.notice("retold", text)] if text else []


def _usage(stats: Mapping[str, Any]) -> list[Event]:
    """The counts of a process are the turn's, as it has only one. Thinking is in `total_tokens` alone."""
    if not stats.get("total_tokens"):
        return []
    return [
        ev.usage(
            input_tokens=stats.get("input_tokens", 0),
            output_tokens=stats.get("output_tokens", 0),
            cached_tokens=stats.get("cached", 0),
            total_tokens=stats["total_tokens"],
        )
    ]
