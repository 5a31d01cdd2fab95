"""opencode's modes `acp` (two-way) and `run` (one shot, JSON lines on stdout).

Deliberate, mode `run`: there is no terminal line, so a turn ends with the process. An `error` line is final only if the
exit code says so: a context overflow is told, compacted and tried again. Text parts marked `synthetic` are opencode's own.
Deliberate, mode `acp`: the token counts of a turn's answer are those of its last model call; only the cost is complete. An
answer cut at the model's output limit is told as `end_turn`, so it cannot be told from a whole one. A prompt that begins with
`/` would be a command of opencode and never reach the model; as blank space is trimmed before it looks, an invisible
character that is none stands before such a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from adapters import acp_tools
from adapters import events as ev
from adapters.acp import AcpDialogue
from adapters.acp_tools import Call
from adapters.calls import Named, Result
from adapters.dialogue import Dialogue, Exit, Failure, Step, Turn
from adapters.events import ErrorCategory, Event
from adapters.runtimes.opencode import tools

# `tool-calls` as the last reason: the model wanted to go on, but a rejected permission stopped it.
REASONS: dict[str, ErrorCategory] = {
    "length": "output_limit",
    "content-filter": "content_refused",
    "tool-calls": "permission_denied",
}


_COMMAND = re.compile(r"[\s\ufeff]*/")
_INVISIBLE = "\u200b"  # zero width space


class AcpMode(AcpDialogue):
    """`opencode acp`. The first title of a call is the tool's name; its input is complete once it is in progress."""

    prompt_joins: ClassVar[bool] = True
    plan_update_is_tool: ClassVar[bool] = False
    sends_system_prompt: ClassVar[bool] = False

    def tool_of(self, call: Call) -> Named:
        return tools.named(_name(call), acp_tools.raw_input(call), self.servers())

    def result_of(self, update: Call, call: Call) -> Result:
        said, name = update.get("rawOutput") or {}, _name(call)
        if update.get("status") == "failed":
            error = said.get("error") or acp_tools.content_text(update.get("content"))
            return tools.result(name, {"status": "error", "error": error}, self.servers())
        return tools.result(name, said, self.servers())

    def prompt_of(self, text: str) -> list[dict[str, Any]]:
        return super().prompt_of(_INVISIBLE + text if _COMMAND.match(text) else text)

    def failure_of_error(self, error: Mapping[str, Any]) -> Failure:
        found = super().failure_of_error(error)
        data = error.get("data")
        if found.category == "runtime_crash" and isinstance(data, Mapping) and data.get("errorName") == "APIError":
            return Failure("upstream_api_error", found.text)
        return found


def _name(call: Call) -> str:
    """A call of a tool there is not is retitled once it runs."""
    return "invalid" if call.get("title") in ("invalid", "Invalid Tool") else str(call.get("name"))


class PartsDialogue(Dialogue):
    """What the modes `run` and `serve` share: tool parts and steps."""

    def __init__(self, new_id: Any) -> None:
        super().__init__(new_id)
        self.clear()

    def clear(self) -> None:
        self.reason: str | None = None  # of the last step that finished
        self.begun = False  # a step has started
        self.error: Mapping[str, Any] | None = None  # the last error told
        self.used: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_usd": 0.0}

    def servers(self) -> list[str]:
        return [str(server["name"]) for server in (self.turn.mcp_servers if self.turn else ())]

    def on_tool(self, part: Mapping[str, Any]) -> list[Event]:
        """A tool part, in any state: pending says nothing yet."""
        id, tool, state = str(part["callID"]), str(part["tool"]), part["state"]
        if state["status"] == "pending":
            return []
        canonical, input, vendor = tools.named(tool, state.get("input") or {}, self.servers())
        out = self.tool_start(id, canonical, input, vendor_tool=vendor)
        if state["status"] == "running":
            return out
        output, is_error, code, truncated, detail = tools.result(tool, state, self.servers())
        said = self.tool_result(id, output, is_error=is_error, exit_code=code, truncated=truncated)
        if detail and said:
            said.append(ev.tool_detail(said[0].body["call_id"], output=detail))
        return out + said

    def on_step_finish(self, part: Mapping[str, Any]) -> None:
        tokens = part.get("tokens") or {}
        self.reason = part.get("reason")
        self.used["input_tokens"] += tokens.get("input", 0)
        self.used["output_tokens"] += tokens.get("output", 0)
        self.used["cached_tokens"] += (tokens.get("cache") or {}).get("read", 0)
        self.used["cost_usd"] = round(self.used["cost_usd"] + part.get("cost", 0), 10)

    def usage(self) -> list[Event]:
        return [ev.usage(**self.used)] if any(self.used.values()) else []

    def end_by_reason(self) -> list[Event]:
        category = REASONS.get(str(self.reason))
        if category is None:
            return self.end("completed", None, *self.usage())
        return self.end("failed", Failure(category, f"the last step ended with {self.reason!r}"), *self.usage())


class RunMode(PartsDialogue):
    """`opencode run --format json`."""

    def on_start(self, turn: Turn) -> list[bytes]:
        self.clear()
        return [turn.prompt.encode()]

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        out = self.session(message.get("sessionID"))
        part = message.get("part") or {}
        match message.get("type"):
            case "step_start":
                self.begun = True
            case "text":
                out += self._text(part)
            case "reasoning":
                out.append(ev.thinking(part["text"]))
            case "tool_use":
                out += self.on_tool(part)
            case "step_finish":
                self.on_step_finish(part)
            case "error":
                self.error = message["error"]
                out.append(ev.notice("error", tools.failure(message["error"]).text))
            case _:
                out.append(self.keep(line, "unknown type"))
        return Step(out, [])

    def _text(self, part: Mapping[str, Any]) -> list[Event]:
        if part.get("synthetic"):
            return [ev.notice("synthetic", part["text"])]
        return [ev.chunk(part["text"])] if part["text"] else []

    def on_exit(self, exit: Exit) -> list[Event]:
        if exit.code == 0 and not self.interrupted and self.reason is not None:
            return self.end_by_reason()
        if self.interrupted:
            return self.end("canceled", None, *self.usage())
        lost = "Session not found" in exit.stderr and self.lines == 0
        before = [ev.notice("resume_failed", exit.stderr)] if lost else []
        return self.end("failed", self.failure_of_exit(exit), *before, *self.usage())

    def failure_of_exit(self, exit: Exit) -> Failure:
        if self.error is not None and exit.code:
            return tools.failure(self.error, begun=self.begun)
        return super().failure_of_exit(exit)
