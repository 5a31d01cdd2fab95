"""Why a turn failed, told from the result line, the CLI's own error message before it, or stderr.

API errors come as `subtype: "success"` with `is_error: true`; what they are says the key `error` of the `<synthetic>`
message printed before. The text is looked at first: one key stands for several causes ("invalid_request": a prompt too
long, a refusal, a bad parameter), and so does the HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from adapters.dialogue import Failure, category_of_status
from adapters.events import ErrorCategory, YieldReason

_LIMITS: dict[str, YieldReason] = {"error_max_turns": "max_turns", "error_max_budget_usd": "budget_exceeded"}
_ABORTED = frozenset({"aborted_streaming", "aborted_tools"})
_ERRORS: dict[str, ErrorCategory] = {
    "authentication_failed": "auth_error",
    "oauth_org_not_allowed": "auth_error",
    "billing_error": "quota_exceeded",
    "rate_limit": "rate_limit",
    "overloaded": "upstream_api_error",
    "server_error": "upstream_api_error",
    "model_not_found": "model_not_found",
    "max_output_tokens": "output_limit",
}
_TEXTS: tuple[tuple[str, ErrorCategory], ...] = (
    (r"prompt is too long|context window|request too large", "context_overflow"),
    (r"usage policy|content filtering", "content_refused"),
    (r"credit balance|spend limit|usage limit|quota|hit your .*limit", "quota_exceeded"),
    (r"no conversation found", "startup_crash"),
)
_STDERR: tuple[tuple[str, ErrorCategory], ...] = (
    (r"session id \S+ is already in use", "duplicate_session"),
    (r"error parsing streaming input", "protocol_error"),
    (r"invalid api key|not logged in|please run /login|api key is required", "auth_error"),
    (r"cannot be used with root|no conversation found|invalid session id|unknown option|invalid mcp config", "startup_crash"),
)


class Synthetic(NamedTuple):
    """A message the CLI wrote itself in the model's place: `error` says of what kind."""

    error: str | None
    text: str


def is_aborted(result: Mapping[str, Any]) -> bool:
    return result.get("terminal_reason") in _ABORTED


def outcome(result: Mapping[str, Any], said: Synthetic | None, *, cut: bool) -> tuple[YieldReason, Failure | None]:
    """How a result line ends its turn. `cut`: the stream of the last message began and never ended."""
    if is_aborted(result):
        return "canceled", None
    limit = _LIMITS.get(str(result.get("subtype")))
    if limit is not None:
        return limit, Failure("budget_exceeded", _text(result))
    if result.get("is_error"):
        return "failed", Failure(_category(result, said, cut), _text(result))
    if cut and result.get("stop_reason") is None:
        # A stream that breaks after a finished block is not retried: half an answer is called a success.
        return "failed", Failure("upstream_api_error", "the model's answer broke off and the rest never came")
    return "completed", None


def category_of_stderr(stderr: str) -> ErrorCategory | None:
    return _match(_STDERR, stderr)


def _category(result: Mapping[str, Any], said: Synthetic | None, cut: bool) -> ErrorCategory:
    if result.get("stop_reason") == "refusal":
        return "content_refused"
    if result.get("terminal_reason") == "prompt_too_long":
        return "context_overflow"
    named = _match(_TEXTS, _text(result)) or _ERRORS.get(said.error or "" if said else "")
    if named == "auth_error" and result.get("api_error_status") == 403:
        return "permission_denied"  # the CLI calls this a failed sign-in too
    if named is not None:
        return named
    if said is None:
        return "upstream_api_error" if cut else "runtime_crash"
    return category_of_status(result.get("api_error_status"))


def _match(table: tuple[tuple[str, ErrorCategory], ...], text: str) -> ErrorCategory | None:
    low = text.lower()
    return next((category for pattern, category in table if re.search(pattern, low)), None)


def _text(result: Mapping[str, Any]) -> str:
    return str(result.get("result") or "\n".join(map(str, result.get("errors") or [])) or result.get("subtype"))
