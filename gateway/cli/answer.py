"""What a stream says, for people: the answer to stdout as it comes, tools and trouble dimmed to stderr.

Text already shown is remembered an artifact at a time, so that a snapshot of the task, which repeats it, adds only what
is new. A status message is the answer where the task ends well or asks; in a failed task it is the reason.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gateway.cli.output import Output, one_line
from gateway.errors import SwitchboardError

_EXIT_OF = {"TASK_STATE_COMPLETED": 0, "TASK_STATE_INPUT_REQUIRED": 0, "TASK_STATE_AUTH_REQUIRED": 4}
_ANSWERS = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
_TROUBLE = frozenset({"TASK_STATE_FAILED", "TASK_STATE_REJECTED", "TASK_STATE_CANCELED"})
_TURN_FAILED = 3


def exit_of(state: str) -> int:
    return _EXIT_OF.get(state, _TURN_FAILED)


class TurnFailed(SwitchboardError):
    """The call went well; the agent's turn did not."""


class Answer:
    """`live` prints while events come; without it nothing is printed before `finish`."""

    def __init__(self, out: Output, *, live: bool = True) -> None:
        self.out = out
        self.live = live and not out.json
        self.text = ""
        self.trouble = ""
        self._shown: dict[str, str] = {}
        self._last = ""
        self._titles: dict[str, str] = {}
        self._fresh = True  # the terminal's cursor is at the start of a line

    def take(self, event: dict[str, Any]) -> None:
        if self.out.json:
            self.out.line(event)
        for kind, body in event.items():
            if kind == "task":
                for artifact in body.get("artifacts") or []:
                    self._artifact(artifact, append=False)
                self._end(body.get("status") or {})
            elif kind == "artifactUpdate":
                self._artifact(body.get("artifact") or {}, append=bool(body.get("append")))
            elif kind == "statusUpdate":
                self._working(body.get("status") or {})
                self._end(body.get("status") or {})
            elif kind == "message":
                self._piece("message", _content(body.get("parts") or []))

    def finish(self) -> None:
        if not self.out.json and not self.live:
            self.out.text(self.text)
            self._fresh = self.text.endswith("\n") or not self.text
        if not self._fresh:
            self.out.text("\n")

    def result(self, task_id: str, context_id: str, state: str) -> dict[str, Any]:
        return {"result": {"task_id": task_id, "context_id": context_id, "state": state, "text": self.text}}

    def _artifact(self, artifact: dict[str, Any], *, append: bool) -> None:
        key, text = f"artifact {artifact.get('artifactId')}", _content(artifact.get("parts") or [])
        before = self._shown.get(key, "")
        if not append and not text.startswith(before):
            self._begin_anew(before)
        whole = before + text if append else text
        self._shown[key] = whole
        self._piece(key, whole.removeprefix(before) if whole.startswith(before) else whole)
        for part in artifact.get("parts") or []:
            self._file(part)

    def _begin_anew(self, said: str) -> None:
        """What comes now stands for what was said."""
        self.text = self.text.removesuffix(said)
        if self.live and not self._fresh:
            self.out.text("\n")
            self._fresh = True

    def _working(self, status: dict[str, Any]) -> None:
        """Tools, and what is said in between; a snapshot repeats the last of it, so only updates come here."""
        parts = (status.get("message") or {}).get("parts") or []
        tools = [part["data"] for part in parts if _is_tool(part)]
        for tool in tools:
            self._tool(tool)
        if not tools and status.get("state") not in _ANSWERS | _TROUBLE:
            self._note(_text(parts))

    def _end(self, status: dict[str, Any]) -> None:
        text = _text((status.get("message") or {}).get("parts") or [])
        if status.get("state") in _TROUBLE:
            self.trouble = text
        elif status.get("state") in _ANSWERS and text.strip() != self.text.strip():
            self._piece("status", text)

    def _piece(self, source: str, text: str) -> None:
        """A piece of the answer; one from another source begins on a line of its own."""
        if not text:
            return
        gap = "\n" if self.text and source != self._last and not self.text.endswith("\n") else ""
        self._last = source
        self.text += gap + text
        if self.live:
            self.out.text(text if self._fresh else gap + text)
            self._fresh = text.endswith("\n")

    def _file(self, part: dict[str, Any]) -> None:
        if "url" in part or "raw" in part:
            self._note(f"file {one_line(part.get('filename'))}: {part.get('url') or part.get('mediaType') or 'binary'}")

    def _tool(self, data: dict[str, Any]) -> None:
        call = str(data.get("call_id"))
        if data["type"] == "tool_start":
            self._titles[call] = one_line(data.get("title") or data.get("tool"))
            self._note(f"> {self._titles[call]}")
            return
        failed = f"failed (exit {data['exit_code']})" if data.get("exit_code") else "failed"
        self._note(f"  {self._titles.get(call, 'tool')}: {failed if data.get('is_error') else 'ok'}")

    def _note(self, text: str) -> None:
        if not self.live or not text:
            return
        if not self._fresh and sys.stdout.isatty() and sys.stderr.isatty():
            self.out.text("\n")
            self._fresh = True
        self.out.say(text)


def _is_tool(part: dict[str, Any]) -> bool:
    data = part.get("data")
    return isinstance(data, dict) and data.get("type") in ("tool_start", "tool_result")


def _text(parts: list[dict[str, Any]]) -> str:
    return "".join(str(part["text"]) for part in parts if "text" in part)


def _content(parts: list[dict[str, Any]]) -> str:
    """Text as it is, data as JSON on a line of its own."""
    return "".join(
        f"{json.dumps(part['data'], ensure_ascii=False)}\n" if "data" in part else str(part.get("text", "")) for part in parts
    )
