"""Why a turn failed, told from codes where the runtime gives one and from its words where it does not.

`exec` prints only a sentence; `app-server` adds `codexErrorInfo` (a word, or an object with `httpStatusCode`). Words
are looked at before a bare status: "429" may be a rate limit or a used-up quota, "400" a conversation too long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapters.dialogue import Failure, category_of_status
from adapters.events import ErrorCategory

_NAMED: dict[str, ErrorCategory] = {
    "contextWindowExceeded": "context_overflow",
    "sessionBudgetExceeded": "budget_exceeded",
    "usageLimitExceeded": "quota_exceeded",
    "rateLimitExceeded": "rate_limit",
    "flexUnavailable": "upstream_api_error",
    "serverOverloaded": "upstream_api_error",
    "policyCapacityUnavailable": "upstream_api_error",
    "internalServerError": "upstream_api_error",
    "modelNotFound": "model_not_found",
    "cyberPolicy": "content_refused",
    "misalignmentPolicyViolation": "content_refused",
    "inferenceHookDenied": "content_refused",
    "tooManyDenials": "permission_denied",
    "unauthorized": "auth_error",
}
_TEXTS: tuple[tuple[str, ErrorCategory], ...] = (
    (r"missing environment variable|401 unauthorized|incorrect api key|invalid.api.key", "auth_error"),
    (r"quota exceeded|insufficient.quota|usage limit|billing", "quota_exceeded"),
    (r"ran out of room in the model's context window|context.length.exceeded|context window", "context_overflow"),
    (r"reason: content_filter|content.policy|invalid_prompt|flagged", "content_refused"),
    (r"reason: max_output_tokens", "output_limit"),
    (r"does not exist or you do not have access|model.not.found|404 not found", "model_not_found"),
    (r"429 too many requests|rate.?limit", "rate_limit"),
    (r"403 forbidden", "permission_denied"),
    (r"invalid_request_error|400 bad request", "invalid_request"),
    (
        r"high demand|at capacity|\b5\d\d [a-z]|stream disconnected|connection failed|error sending request",
        "upstream_api_error",
    ),
    (r"idle timeout|timed out waiting", "upstream_api_error"),
)
_NOISE = re.compile(
    r"^(?:Reading (?:additional input|prompt) from stdin\.\.\.\s*|WARNING: proceeding, even though .*)$", re.MULTILINE
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STATUS = re.compile(r"\bstatus:? (\d{3})\b")


def category_of_text(text: str) -> ErrorCategory | None:
    """The category an error text speaks of, if it can be told."""
    low = text.lower()
    for pattern, category in _TEXTS:
        if re.search(pattern, low):
            return category
    status = _STATUS.search(low)
    return category_of_status(int(status[1])) if status else None


def failure_of_text(text: str, otherwise: ErrorCategory = "runtime_crash") -> Failure:
    return Failure(category_of_text(text) or otherwise, text)


def failure_of_error(error: Mapping[str, Any]) -> Failure:
    """A turn's error in app-server: `{message, codexErrorInfo, additionalDetails}`."""
    info = error.get("codexErrorInfo")
    text = text_of(error)
    known = _NAMED.get(info) if isinstance(info, str) else None
    return Failure(known or category_of_text(text) or _category_of_info(info), text)


def text_of(error: Mapping[str, Any]) -> str:
    return "\n".join(str(part) for part in (error.get("message"), error.get("additionalDetails")) if part)


def _category_of_info(info: Any) -> ErrorCategory:
    if info == "badRequest":
        return "invalid_request"
    if isinstance(info, Mapping):
        inner = next((value for value in info.values() if isinstance(value, Mapping)), {})
        return category_of_status(inner.get("httpStatusCode"))
    return "runtime_crash"


def useful(stderr: str) -> str:
    """stderr without colours and without the lines that every run prints."""
    return _NOISE.sub("", _ANSI.sub("", stderr)).strip()
