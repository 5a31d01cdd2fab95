"""A session's events, for people: what the agent says to stdout as it comes; who asked, tools and ends dimmed to stderr.

With `--json` every event is a line as the API gave it.
"""

from __future__ import annotations

import sys
from typing import Any

from gateway.cli.output import Output, one_line

WELL = frozenset({"completed", "needs_input", "needs_auth"})
_TURN_FAILED = 3
_SIGN_IN = 4


def exit_of(reason: str | None) -> int:
    if reason == "needs_auth":
        return _SIGN_IN
    return 0 if reason is None or reason in WELL else _TURN_FAILED


class Transcript:
    def __init__(self, out: Output, *, own: bool = True) -> None:
        """`own`: whether messages are told, too."""
        self.out, self.own = out, own
        self.reason: str | None = None  # of the last turn that ended
        self._titles: dict[str, str] = {}
        self._fresh = True  # the terminal's cursor is at the start of a line
        self._told: set[str] = set()  # turns that have said something
        self._anew: set[str] = set()  # turns whose next words replace what they have said

    def take(self, event: dict[str, Any]) -> None:
        if event["type"] == "done":
            self.reason = event["body"]["yield_reason"]
        if self.out.json:
            return self.out.line(event)
        self._begin_anew(event["type"], str(event.get("turn_id")), event["body"])
        return self._tell(event["type"], event["body"])

    def finish(self) -> None:
        if not self._fresh:
            self.out.text("\n")
            self._fresh = True

    def _begin_anew(self, type: str, turn: str, body: dict[str, Any]) -> None:
        """What was said cannot be taken back here; that it does not hold can be told."""
        if type == "turn_started" and body.get("anew") and turn in self._told:
            self._anew.add(turn)
        elif type == "chunk":
            self._told.add(turn)
            if turn in self._anew:
                self._anew.remove(turn)
                self.finish()
                self._note("The answer begins again, in the place of what was said:")

    def _tell(self, type: str, body: dict[str, Any]) -> None:
        match type:
            case "chunk":
                self.out.text(body["text"])
                self._fresh = body["text"].endswith("\n")
            case "message":
                if self.own:
                    self._note(f"you: {one_line(' '.join(str(part.get('text', '')) for part in body['parts']))}")
            case "tool_start":
                self._titles[body["call_id"]] = one_line(body["title"] or body["tool"])
                self._note(f"> {self._titles[body['call_id']]}")
            case "tool_result":
                self._note(f"  {self._titles.get(body['call_id'], 'tool')}: {_outcome(body)}")
            case "artifact":
                if not body["append"]:
                    self._note(f"file {one_line(body['name'])}: {_where(body['parts'])}")
            case "ask":
                self._note(f"? {body['question']}")
            case "system":
                self._note(body["text"])
            case "snapshot":
                self._note(f"(events up to {body['upto']} are in the archive)")
            case "done":
                self._end(body)

    def _end(self, body: dict[str, Any]) -> None:
        self.finish()
        if body["error"] is not None:
            self._note(f"[{body['yield_reason']}] {body['error']['message']}")
        elif body["yield_reason"] not in WELL:
            self._note(f"[{body['yield_reason']}]")

    def _note(self, text: str) -> None:
        if sys.stdout.isatty() and sys.stderr.isatty():
            self.finish()
        self.out.say(text)


def _outcome(body: dict[str, Any]) -> str:
    if not body["is_error"]:
        return "ok"
    return f"failed (exit {body['exit_code']})" if body["exit_code"] else "failed"


def _where(parts: list[dict[str, Any]]) -> str:
    return next((str(part["url"]) for part in parts if "url" in part), "text")
