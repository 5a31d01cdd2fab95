"""Claude Code's stream-json: the reader of its lines, and the one-shot way of speaking to it (`-p`, prompt on stdin).

Deliberate:
- Text is said as it streams; see `answer` for whole messages after deltas and for answers that begin anew.
- A `<synthetic>` message is the CLI speaking, not the model: never a chunk.
- Tools of a sub-agent are told like any others, because they are work done in the same workspace; its text and
  thoughts are not told, because its result says them.
- Usage is the difference of `modelUsage` and `total_cost_usd`, which are sums of the process and count sub-agents and
  retried answers; the result's own `usage` leaves these out. Input tokens include what was read from a cache.
- A leading space keeps a prompt that begins with `/` from being a slash command, which no model would ever see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters import events as ev
from adapters.dialogue import Dialogue, Exit, Failure, Step, Turn
from adapters.events import Event
from adapters.runtimes.claude import failures, system, tools
from adapters.runtimes.claude.answer import Answer
from adapters.runtimes.claude.failures import Synthetic
from adapters.runtimes.claude.tasks import NAMES as TASK_TOOLS
from adapters.runtimes.claude.tasks import Tasks


def literal(prompt: str) -> str:
    """`prompt` so that the CLI takes it for text whatever it begins with."""
    return f" {prompt}" if prompt.startswith("/") else prompt


class ClaudeDialogue(Dialogue):
    """The reader of lines. How to write is left to the two ways of speaking."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id)
        self._answer = Answer()
        self._tasks = Tasks({})
        self._synthetic: Synthetic | None = None
        self._spent: dict[str, float] = {}  # totals of the process when the turn began

    def on_start(self, turn: Turn) -> list[bytes]:
        self._begin()
        tasks = {id: dict(item) for id, item in self.memory.get("tasks", {}).items()}
        self.memory["tasks"] = tasks
        self._tasks = Tasks(tasks)
        return []

    def _begin(self) -> None:
        self._answer, self._synthetic = Answer(), None

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if not self.running:
            known = system.is_quiet(message)
            return Step([] if known else [self.keep(line, "outside a turn")], [])
        events = self.read(message)
        return Step([self.keep(line, "unknown type")] if events is None else events, [])

    def read(self, message: dict[str, Any]) -> list[Event] | None:
        """The events of one line; None for one nobody knows."""
        nested = message.get("parent_tool_use_id") is not None
        match message.get("type"):
            case "stream_event":
                self._on_usage(message["event"])
                return [] if nested else self._on_stream(message["event"])
            case "assistant":
                return self._on_assistant(message, nested)
            case "user":
                return self._on_user(message)
            case "system":
                return self._on_system(message)
            case "result":
                return self.on_result(message)
        return [] if system.is_quiet(message) else None

    # -- what the model says

    def _on_usage(self, event: dict[str, Any]) -> None:
        """Tokens as they are told with each call of the model, sub-agents' too; the output's count grows within a call."""
        match event["type"]:
            case "message_start":
                used = event["message"].get("usage") or {}
                kinds = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
                self.spent.input_tokens += sum(used.get(kind) or 0 for kind in kinds)
            case "message_delta":
                self.spent.output_tokens += (event.get("usage") or {}).get("output_tokens") or 0

    def _on_stream(self, event: dict[str, Any]) -> list[Event]:
        match event["type"]:
            case "message_start":
                self._answer.begin(event["message"]["id"])
            case "content_block_start":
                self._answer.open_block()
            case "content_block_delta":
                return self._on_delta(event["delta"])
            case "message_stop":
                self._answer.end()
        return []

    def _on_delta(self, delta: dict[str, Any]) -> list[Event]:
        match delta["type"]:
            case "text_delta":
                return _chunk(self._answer.delta(delta["text"]))
            case "thinking_delta":
                return _thinking(self._answer.thought(delta["thinking"]))
        return []

    def _on_assistant(self, message: dict[str, Any], nested: bool) -> list[Event]:
        said = message["message"]
        if said.get("model") == "<synthetic>":
            return self._on_synthetic(message.get("error"), tools.text_of(said["content"]), nested)
        events: list[Event] = []
        for block in said["content"]:
            if block["type"] == "tool_use":
                events += self._on_call(block)
            elif not nested:
                events += self._on_block(said.get("id"), block)
        return events

    def _on_synthetic(self, error: str | None, text: str, nested: bool) -> list[Event]:
        if nested:
            return []
        self._synthetic = Synthetic(error, text)
        return [] if error else [ev.notice("synthetic", text)]

    def _on_block(self, id: str | None, block: dict[str, Any]) -> list[Event]:
        match block["type"]:
            case "text":
                return _chunk(self._answer.whole(id, block["text"]))
            case "thinking":
                return _thinking(self._answer.whole_thought(id, block["thinking"]))
        return []

    # -- what its tools do

    def _on_call(self, block: dict[str, Any]) -> list[Event]:
        id, name, input = block["id"], block["name"], block.get("input") or {}
        if self.is_open(id):
            return []
        if name in TASK_TOOLS:
            return self.tool_start(id, "plan", {"items": self._tasks.call(name, id, input)}, vendor_tool=name)
        servers = [str(server["name"]) for server in self.turn.mcp_servers] if self.turn else []
        call = tools.call_of(name, input, servers)
        events = self.tool_start(id, call.tool, call.input)
        if call.vendor:
            events.append(ev.tool_detail(events[0].body["call_id"], vendor_tool=call.vendor, input=input))
        return events

    def _on_user(self, message: dict[str, Any]) -> list[Event]:
        content = message["message"]["content"]
        blocks = content if isinstance(content, list) else []
        events: list[Event] = []
        for block in blocks:
            if block.get("type") == "tool_result":
                events += self._on_tool_result(block, message.get("tool_use_result"))
        return events

    def _on_tool_result(self, block: dict[str, Any], own: Any) -> list[Event]:
        id = block["tool_use_id"]
        if not self.is_open(id):
            return []
        call_id, tool = self._calls[id]
        self._tasks.result(id, block.get("is_error") is True, own)
        result = tools.result_of(tool, block, own)
        events = self.tool_result(
            id, result.output, is_error=result.is_error, exit_code=result.exit_code, truncated=result.truncated
        )
        return [*events, ev.tool_detail(call_id, output=result.detail)] if result.detail else events

    # -- what the CLI says of itself

    def _on_system(self, message: dict[str, Any]) -> list[Event] | None:
        if message.get("subtype") == "init":
            return [*self.session(message.get("session_id")), *system.dead_servers(message)]
        return system.notices(message)

    def on_result(self, result: dict[str, Any]) -> list[Event]:
        reason, failure = failures.outcome(result, self._synthetic, cut=self._answer.cut)
        if self.interrupted:
            reason, failure = "canceled", None
        return self.end(reason, failure, self._usage(result))

    def _usage(self, result: dict[str, Any]) -> Event:
        before, self._spent = self._spent, _totals(result)
        spent = {key: max(0.0, value - before.get(key, 0.0)) for key, value in self._spent.items()}
        cost = round(spent.pop("cost_usd"), 10)
        return ev.usage(cost_usd=cost, **{key: int(value) for key, value in spent.items()})

    def failure_of_exit(self, exit: Exit) -> Failure:
        failure = super().failure_of_exit(exit)
        category = failures.category_of_stderr(exit.stderr)
        return Failure(category, failure.text) if category else failure


class PrintDialogue(ClaudeDialogue):
    """One turn: the prompt goes to stdin, which is closed after it."""

    def on_start(self, turn: Turn) -> list[bytes]:
        return [*super().on_start(turn), literal(turn.prompt).encode("utf-8", "replace")]


def _chunk(text: str) -> list[Event]:
    return [ev.chunk(text)] if text else []


def _thinking(text: str) -> list[Event]:
    return [ev.thinking(text)] if text else []


def _totals(result: dict[str, Any]) -> dict[str, float]:
    """What the process has used so far."""
    models = (result.get("modelUsage") or {}).values()
    cached = sum(model.get("cacheReadInputTokens", 0) for model in models)
    written = sum(model.get("cacheCreationInputTokens", 0) for model in models)
    return {
        "input_tokens": sum(model.get("inputTokens", 0) for model in models) + cached + written,
        "output_tokens": sum(model.get("outputTokens", 0) for model in models),
        "cached_tokens": cached,
        "cost_usd": result.get("total_cost_usd") or 0.0,
    }
