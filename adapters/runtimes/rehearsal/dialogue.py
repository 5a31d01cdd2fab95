"""The rehearsal agent's dialogue: our own JSON-lines protocol (`specs/jsonl-protocol.md`), the smallest one to copy.

A line whose fields have the wrong type raises here and is kept raw by `Dialogue.feed`: never fatal, never lost.
"""

from __future__ import annotations

from typing import Any, get_args

from adapters import events as ev
from adapters.dialogue import Dialogue, Failure, Recorded, Step, Turn, Unsupported, json_line
from adapters.events import ErrorCategory, Event, YieldReason


class RehearsalDialogue(Dialogue):
    def on_start(self, turn: Turn) -> list[bytes]:
        line: dict[str, Any] = {
            "type": "turn",
            "prompt": turn.prompt,
            "workspace": turn.workspace,
            "session": turn.native_session,
            "parts": [{"text": turn.prompt}],
            "metadata": {},
            "message_id": None,
        }
        return [json_line(line)]

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if not self.running:
            return Step([self.keep(line, "outside a turn")], [])
        events = self.read(message)
        return Step([self.keep(line, "unknown type")] if events is None else events, [])

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
            case "steered":
                return self.taken(text(message, "id"))
            case "usage":
                return [ev.usage(**numbers(message))]
            case "notice":
                return [ev.notice(text(message, "kind"), text(message, "text"))]
            case "done":
                return self.read_done(message)
        return None

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
            return self.end(reason)
        return self.end(reason, failure_of(error if isinstance(error, dict) else {}))

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


def artifact(message: dict[str, Any]) -> Event:
    parts = [part for part in of_type(message, "parts", list) if isinstance(part, dict)]
    return ev.artifact(
        text(message, "name"), parts, append=message.get("append", False) is True, last=message.get("last", True) is True
    )


def failure_of(error: dict[str, Any]) -> Failure:
    category: ErrorCategory = error.get("category", "protocol_error")
    detail = str(error.get("text") or "")
    if category not in get_args(ErrorCategory):
        return Failure("protocol_error", f"unknown category {category!r}: {detail}")
    return Failure(category, detail)
