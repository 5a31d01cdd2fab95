"""Why a turn failed, from the CLI's error texts and exit codes: it gives hardly anything else.

Exit codes: 41 sign-in, 42 session, 44 sandbox, 52 configuration, 53 turn limit, 55 untrusted folder; else the HTTP
status modulo 256. They are read only where the CLI printed no `result` line.
"""

from __future__ import annotations

import re

from adapters.dialogue import Exit, Failure, category_of_status
from adapters.events import ErrorCategory

_TEXTS: tuple[tuple[str, ErrorCategory], ...] = (
    (r"suggested retry after|retry in [\d.]+ ?m?s", "rate_limit"),
    (r"daily quota|quota_exhausted|exhausted your|limit: 0\b|insufficient|credit|billing", "quota_exceeded"),
    (r"wait and try again later|rate.?limit|too many requests|resource.?exhausted|resource has been exhausted", "rate_limit"),
    (r"input token count|exceeds the maximum number of tokens|context window|too many tokens", "context_overflow"),
    (r"api key not valid|api_key_invalid|api key expired|unauthenticated|auth method|gemini_api_key", "auth_error"),
    (r"is not found for api version|model\b.* not found|not supported for generatecontent", "model_not_found"),
    (r"safety settings|copyright filters|policy settings|prohibited.?content|\bblocked\b", "content_refused"),
    (r"response was truncated|exceeded the token limit", "output_limit"),
    (r"permission.?denied|forbidden", "permission_denied"),
    (r"session id .*already|already (?:exists|in use)", "duplicate_session"),
    (
        r"overloaded|unavailable|terminated|fetch failed|finish reason|empty response|malformed|internal error",
        "upstream_api_error",
    ),
)
_STATUS = re.compile(r'"code":\s*(\d{3})\b')
_EXITS: dict[int, ErrorCategory] = {
    41: "auth_error",
    42: "startup_crash",
    44: "startup_crash",
    52: "startup_crash",
    55: "startup_crash",
}


def category_of_text(text: str) -> ErrorCategory | None:
    low = text.lower()
    found = next((category for pattern, category in _TEXTS if re.search(pattern, low)), None)
    status = _STATUS.search(text)
    return found or (category_of_status(int(status[1])) if status else None)


def of_result(text: str) -> Failure:
    """A `result` with status error: nearly always the model provider's."""
    return Failure(category_of_text(text) or "upstream_api_error", text)


def of_start(exit: Exit) -> Failure | None:
    """The end of a process that printed nothing: stderr and the exit code say why."""
    code = exit.code or 0
    if code in _EXITS:
        known = category_of_text(exit.stderr) if code == 42 else None
        return Failure(known or _EXITS[code], exit.stderr or f"exit code {code}")
    if code >= 400 - 256:
        return Failure(category_of_status(code + 256), exit.stderr or f"exit code {code}")
    return None
