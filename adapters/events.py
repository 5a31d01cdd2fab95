"""Normalised events: the only words in which a runtime is ever spoken of above `adapters`.

`level` nests: callers read `user` and `progress`, owners also `internal`. Internal types (`INTERNAL`) may carry vendor words;
the others never do.

Bodies, all JSON:
    chunk {text}                       thinking {text}
    tool_start {call_id, tool, input, title}
    tool_result {call_id, output, is_error, exit_code, duration_ms, truncated}
    tool_detail {call_id, vendor_tool?, output?}       what the vendor said of that call, for the owner
    artifact {name, parts, append, last}   ask {question}
    usage {input_tokens, output_tokens, cached_tokens, cost_usd, ...}
    native_session {id}                the runtime's own session id, for its native resume
    steered {turn}                     a message sent while the turn ran was taken into it; `turn` waited with it
    notice {kind, text}                retries, warnings, stderr worth keeping
    raw {line, reason}                 a line nobody knows: kept, counted, never fatal
    error_detail {category, text}      the vendor's own error text
    done {yield_reason, error: null | {category, retryable, message}, message?, direct?}   message: parts told with the end
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Level = Literal["user", "progress", "internal"]
Actor = Literal["human", "agent", "system"]
EventType = Literal[
    "message",
    "turn_started",
    "chunk",
    "thinking",
    "tool_start",
    "tool_result",
    "artifact",
    "ask",
    "done",
    "system",
    "usage",
    "native_session",
    "steered",
    "notice",
    "tool_detail",
    "error_detail",
    "raw",
]
INTERNAL: frozenset[EventType] = frozenset(  # for owners only; callers read the rest
    {"thinking", "usage", "native_session", "steered", "notice", "tool_detail", "error_detail", "raw"}
)
SHOWN: tuple[EventType, ...] = tuple(type for type in get_args(EventType) if type not in INTERNAL)
YieldReason = Literal[
    "completed",
    "needs_input",
    "needs_auth",
    "deadline_exceeded",
    "budget_exceeded",
    "max_turns",
    "canceled",
    "rejected",
    "failed",
]
ErrorCategory = Literal[
    "model_not_found",
    "auth_error",
    "permission_denied",
    "rate_limit",
    "upstream_api_error",
    "duplicate_session",
    "quota_exceeded",
    "context_overflow",
    "output_limit",
    "content_refused",
    "invalid_request",
    "startup_crash",
    "runtime_crash",
    "runtime_missing",
    "protocol_error",
    "egress_denied",
    "setup_failed",
    "out_of_memory",
    "deadline_exceeded",
    "budget_exceeded",
]

RETRYABLE: frozenset[ErrorCategory] = frozenset({"rate_limit", "upstream_api_error", "duplicate_session", "runtime_crash"})

# What callers are told: one neutral sentence a category, the same whatever runs underneath.
NEUTRAL: dict[ErrorCategory, str] = {
    "model_not_found": "The agent's model is not available.",
    "auth_error": "The agent could not sign in to its model provider.",
    "permission_denied": "The agent was not allowed to do this.",
    "rate_limit": "The agent's model provider is limiting requests. Try again later.",
    "upstream_api_error": "The agent's model provider had an error. Try again.",
    "duplicate_session": "The conversation is in use elsewhere. Try again.",
    "quota_exceeded": "The agent's quota at its model provider is used up.",
    "context_overflow": "The conversation is too long for the agent's model.",
    "output_limit": "The answer was longer than the agent's model allows.",
    "content_refused": "The agent's model provider refused the content.",
    "invalid_request": "The agent's model provider did not accept the request.",
    "startup_crash": "The agent could not be started.",
    "runtime_crash": "The agent stopped unexpectedly in the middle of its work. Try again.",
    "runtime_missing": "The agent could not be started.",
    "protocol_error": "The agent gave an answer that could not be understood.",
    "egress_denied": "The agent tried to reach a host that is not allowed.",
    "setup_failed": "The agent's workspace could not be prepared.",
    "out_of_memory": "The agent ran out of memory.",
    "deadline_exceeded": "The agent did not finish in time.",
    "budget_exceeded": "The agent reached the limit set for this task.",
}
assert set(NEUTRAL) == set(get_args(ErrorCategory))

Tool = str  # shell, read_file, ..., `mcp:<server>/<tool>`, other: see TOOLS
TOOLS: frozenset[str] = frozenset(
    {
        "shell",
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "search_files",
        "web_fetch",
        "web_search",
        "plan",
        "subagent",
        "other",
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """One normalised event, before the log gives it a number."""

    type: EventType
    level: Level
    body: dict[str, Any]
    actor: Actor = "agent"


def chunk(text: str) -> Event:
    return Event("chunk", "user", {"text": text})


def thinking(text: str) -> Event:
    return Event("thinking", "internal", {"text": text})


def tool_start(call_id: str, tool: Tool, input: dict[str, Any], title: str) -> Event:
    return Event("tool_start", "progress", {"call_id": call_id, "tool": tool, "input": input, "title": title})


def tool_result(
    call_id: str,
    output: str,
    *,
    is_error: bool = False,
    exit_code: int | None = None,
    duration_ms: int | None = None,
    truncated: bool = False,
) -> Event:
    body = {
        "call_id": call_id,
        "output": output,
        "is_error": is_error,
        "exit_code": exit_code,
        "duration_ms": duration_ms,
        "truncated": truncated,
    }
    return Event("tool_result", "progress", body)


def tool_detail(call_id: str, **detail: Any) -> Event:
    return Event("tool_detail", "internal", {"call_id": call_id, **detail})


def artifact(name: str, parts: list[dict[str, Any]], *, append: bool = False, last: bool = True) -> Event:
    return Event("artifact", "user", {"name": name, "parts": parts, "append": append, "last": last})


def ask(question: str) -> Event:
    return Event("ask", "user", {"question": question})


def status(text: str) -> Event:
    """What the agent does now, in words for the caller."""
    return Event("system", "progress", {"text": text})


def usage(
    *,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cached_tokens: int = 0,
    cost_usd: float | None = None,
    **more: Any,
) -> Event:
    """What this turn used; totals of a thread are subtracted by the dialogue before they come here."""
    body = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_tokens": cached_tokens, "cost_usd": cost_usd}
    return Event("usage", "internal", body | more)


def native_session(id: str) -> Event:
    return Event("native_session", "internal", {"id": id})


def steered(turn: str) -> Event:
    return Event("steered", "internal", {"turn": turn})


def notice(kind: str, text: str) -> Event:
    return Event("notice", "internal", {"kind": kind, "text": text})


def raw(line: str, reason: str) -> Event:
    return Event("raw", "internal", {"line": line, "reason": reason})


def error_detail(category: ErrorCategory, text: str) -> Event:
    return Event("error_detail", "internal", {"category": category, "text": text})


def done(
    reason: YieldReason,
    category: ErrorCategory | None = None,
    *,
    told: Sequence[Mapping[str, Any]] = (),
    direct: bool = False,
) -> Event:
    """The end of a turn. `told`: parts the caller is told with it; with `direct` they are the answer, without a task."""
    error = None
    if category is not None:
        error = {"category": category, "retryable": category in RETRYABLE, "message": NEUTRAL[category]}
    body: dict[str, Any] = {"yield_reason": reason, "error": error}
    if told:
        body |= {"message": [dict(part) for part in told], **({"direct": True} if direct else {})}
    return Event("done", "user", body, actor="system")
