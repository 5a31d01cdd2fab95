"""opencode's mode `serve`: the payloads of `GET /event`, one a line. It can only be read, from recordings.

A turn starts with a message of the user and ends at `session.idle`; after an abort that comes twice. The user's own text is
a text part too, told apart by its message's role. Work of sub-agents runs in sessions of their own and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters import events as ev
from adapters.dialogue import Step, Turn
from adapters.events import Event
from adapters.runtimes.opencode import tools
from adapters.runtimes.opencode.dialogue import PartsDialogue

_QUIET = ("server.", "session.", "message.", "permission.", "file.", "reference.", "integration.", "plugin.", "catalog.")


class ServeMode(PartsDialogue):
    def __init__(self, new_id: Any) -> None:
        super().__init__(new_id)
        self._session: str | None = None
        self._roles: dict[str, str] = {}  # message id -> role
        self._parts: dict[str, str] = {}  # part id -> type
        self._said: dict[str, str] = {}  # part id -> text told so far

    def on_start(self, turn: Turn) -> list[bytes]:
        self.clear()
        return []

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        kind, body = str(message["type"]), message["properties"]
        id = body.get("sessionID")
        if id is not None and id != (self._session or id):
            return Step([], [])
        self._session = id or self._session
        return Step([*self.session(id), *self._on(kind, body, line)], [])

    def _on(self, kind: str, body: Mapping[str, Any], line: bytes) -> list[Event]:
        match kind:
            case "message.updated":
                return self._on_role(body["info"])
            case "message.part.updated":
                return self._on_part(body["part"])
            case "message.part.delta":
                return self._tell(body["messageID"], body["partID"], self._said.get(body["partID"], "") + body["delta"])
            case "session.status" if body["status"]["type"] == "retry":
                return [ev.notice("retry", str(body["status"].get("message")))]
            case "session.error":
                self.error = body.get("error") or {}
                return [ev.notice("error", tools.failure(self.error).text)]
            case "session.idle":
                return self._on_idle()
            case _:
                return [] if kind.startswith(_QUIET) else [self.keep(line, "unknown type")]

    def _on_role(self, info: Mapping[str, Any]) -> list[Event]:
        new = info["id"] not in self._roles
        self._roles[info["id"]] = info["role"]
        if new and info["role"] == "user" and not self.running:
            self.running = True
            self.clear()
        return []

    def _on_part(self, part: Mapping[str, Any]) -> list[Event]:
        self._parts[part["id"]] = part["type"]
        match part["type"]:
            case "text" | "reasoning":
                return [] if part.get("synthetic") else self._tell(part["messageID"], part["id"], part["text"])
            case "tool":
                return self.on_tool(part) if self.running else []
            case "step-start":
                self.begun = True
            case "step-finish":
                self.on_step_finish(part)
        return []

    def _tell(self, message: str, part: str, text: str) -> list[Event]:
        """What is new in a part's text: it grows by deltas and is told whole at its end."""
        before = self._said.get(part, "")
        if self._roles.get(message) != "assistant" or not text.startswith(before) or text == before:
            return []
        self._said[part] = text
        new = text[len(before) :]
        return [ev.thinking(new) if self._parts.get(part) == "reasoning" else ev.chunk(new)]

    def _on_idle(self) -> list[Event]:
        if self.error is None:
            return self.end_by_reason()
        if self.error.get("name") == "MessageAbortedError":
            return self.end("canceled", None, *self.usage())
        return self.end("failed", tools.failure(self.error, begun=self.begun), *self.usage())
