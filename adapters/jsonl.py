"""The dialogue of every runtime that speaks our own JSON-lines protocol (`specs/jsonl-protocol.md`), the smallest one to copy.

A line whose fields have the wrong type raises here and is kept raw by `Dialogue.feed`: never fatal, never lost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from adapters import events as ev
from adapters.dialogue import Dialogue, Failure, Recorded, Step, Turn, Unsupported, json_line
from adapters.events import ErrorCategory, Event, YieldReason
from adapters.profile import Launch, Plan

_OPENS_A_TASK = ("chunk", "tool_start", "artifact", "ask", "system")  # what callers read: from then on it is no direct answer


def of_script(script: Path) -> Callable[[Plan], Launch]:
    """How to start a runtime that is one Python file, of the standard library alone."""

    def launch(plan: Plan) -> Launch:
        argv = (plan.executable or sys.executable, "-I", str(script))
        return Launch(argv=argv, sees=(str(script), sys.base_prefix), keep_stdin=True)

    return launch


class JsonLinesDialogue(Dialogue):
    def on_start(self, turn: Turn) -> list[bytes]:
        self._open = False  # whether a task has begun to show
        line: dict[str, Any] = {
            "type": "turn",
            "prompt": turn.prompt,
            "workspace": turn.workspace,
            "session": turn.native_session,
            "parts": [dict(part) for part in turn.parts] or [{"text": turn.prompt}],
            "metadata": dict(turn.metadata),
            "message_id": turn.message_id or None,
            "context_id": turn.context_id or None,
            "task_id": turn.task_id or None,
            "references": [dict(reference) for reference in turn.references],
        }
        return [json_line(line)]

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if not self.running:
            return Step([self.keep(line, "outside a turn")], [])
        events = self.read(message)
        if events is None:
            return Step([self.keep(line, "unknown type")], [])
        self._open = self._open or any(event.type in _OPENS_A_TASK for event in events)
        return Step(events, [])

    def read(self, message: dict[str, Any]) -> list[Event] | None:
        """The events of one line; None for a type nobody knows."""
        match message.get("type"):
            case "session":
                return self.session(text(message, "id"))
            case "chunk":
                return [ev.chunk(text(message, "text"))]
            case "thinking":
                return [ev.thinking(text(message, "text"))]
            case "tool_start":
                return self.open_tool(message)
            case "tool_result":
                return self.close_tool(message)
            case "artifact":
                return [artifact(message)]
            case "ask":
                return [ev.ask(text(message, "question"))]
            case "status":
                return [ev.status(text(message, "text"))]
            case "message":
                return self.end_told("completed", parts(message), direct=not self._open)
            case "steered":
                return self.taken(text(message, "id"))
            case "usage":
                return self.use(numbers(message))
            case "notice":
                return [ev.notice(text(message, "kind"), text(message, "text"))]
            case "done":
                return self.read_done(message)
        return None

    def use(self, used: dict[str, Any]) -> list[Event]:
        self.spent.input_tokens += used.get("input_tokens", 0)
        self.spent.output_tokens += used.get("output_tokens", 0)
        self.spent.cost_usd += used.get("cost_usd", 0.0)
        return [ev.usage(**used)]

    def open_tool(self, message: dict[str, Any]) -> list[Event]:
        name, input = text(message, "tool"), of_type(message, "input", dict)
        known = name in ev.TOOLS or name.startswith("mcp:")
        return self.tool_start(text(message, "call_id"), name if known else "other", input, vendor_tool="" if known else name)

    def close_tool(self, message: dict[str, Any]) -> list[Event]:
        code = message.get("exit_code")
        return self.tool_result(
            text(message, "call_id"),
            text(message, "output"),
            is_error=message.get("is_error") is True,
            exit_code=code if isinstance(code, int) else None,
        )

    def read_done(self, message: dict[str, Any]) -> list[Event]:
        reason: YieldReason = message.get("yield_reason", "completed")
        if reason not in get_args(YieldReason):
            return self.end("failed", Failure("protocol_error", f"unknown yield_reason {reason!r}"))
        error = message.get("error")
        if error is None and reason != "failed":
            return self.end_told(reason, [{"text": text(message, "message")}] if message.get("message") else [])
        return self.end(reason, failure_of(error if isinstance(error, dict) else {}))

    def end_told(self, reason: YieldReason, told: list[dict[str, Any]], *, direct: bool = False) -> list[Event]:
        """End the turn, with parts for the caller."""
        *before, _ = self.end(reason)
        return [*before, ev.done(reason, told=told, direct=direct)]

    def steer(self, text: str, id: str = "") -> list[bytes]:
        if not self.running or self.interrupted:
            raise Unsupported("no turn is running that could take the message")
        return [json_line({"type": "steer", "id": id, "text": text})]

    def interrupt(self) -> list[bytes]:
        self.interrupted = True
        return [json_line({"type": "interrupt"})]

    @classmethod
    def recorded(cls, message: dict[str, Any]) -> Recorded | None:
        match message.get("type"):
            case "turn":
                return Recorded("start", message["prompt"])
            case "steer":
                return Recorded("steer", message["text"])
            case "interrupt":
                return Recorded("interrupt")
        return None


def of_type(message: dict[str, Any], key: str, kind: type[Any]) -> Any:
    if not isinstance(message[key], kind):
        raise TypeError(f"{key} is not {kind.__name__}")
    return message[key]


def text(message: dict[str, Any], key: str) -> str:
    return str(of_type(message, key, str))


def numbers(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if isinstance(value, int | float)}


def parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in of_type(message, "parts", list) if isinstance(part, dict)]


def artifact(message: dict[str, Any]) -> Event:
    append, last = message.get("append", False) is True, message.get("last", True) is True
    return ev.artifact(text(message, "name"), parts(message), append=append, last=last)


def failure_of(error: dict[str, Any]) -> Failure:
    category: ErrorCategory = error.get("category", "protocol_error")
    detail = str(error.get("text") or "")
    if category not in get_args(ErrorCategory):
        return Failure("protocol_error", f"unknown category {category!r}: {detail}")
    return Failure(category, detail)


def recorded_turn(meta: Mapping[str, Any]) -> Turn:
    return Turn(prompt="", workspace=meta.get("cwd", "/workspace"))
