"""Where requests come in and answers go out: parameters and bodies are checked, every error has one shape.

    {"code": "session_archived", "message": "what happened", "hint": "what to do"}

What a caller may know of an error it is told; the rest is an incident, of which the log has the details.
"""

from __future__ import annotations

from typing import Any, TypeVar

import structlog
from pydantic import BaseModel
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from gateway.checked import checked
from gateway.clock import new_id
from gateway.errors import (
    Conflict,
    InvalidParams,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    OutOfScope,
    RateLimited,
    SwitchboardError,
    TooLarge,
    Unavailable,
    UnsupportedType,
    UsageError,
)
from gateway.wire import BadBody, NoJson, checked_body, strict_json

NO_STORE = {"Cache-Control": "no-store"}
RETRY_SECONDS = 1
_TOLD = (UsageError, NotFound, Conflict, NotAllowed, OutOfScope, RateLimited)
_LOOK = "Send it again under its Idempotency-Key, and it is done once; where it had none, look at the sessions first."
_SECRET = ("destinations", "secrets")  # what holds or may hold secrets is not quoted
M = TypeVar("M", bound=BaseModel)

log_ = structlog.get_logger("switchboard.sessions")


def answer(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(), status, NO_STORE, "application/json")


def refused(exc: Exception) -> Response:
    """An error as its answer."""
    problem, headers = told(exc), dict(NO_STORE)
    if isinstance(exc, RateLimited):
        headers["Retry-After"] = str(exc.retry_after)
    if isinstance(exc, Unavailable):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(exc, NotAllowed):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem, status_of(exc), headers)


def status_of(exc: Exception) -> int:
    return exc.codes.http if isinstance(exc, SwitchboardError) else 500


def told(exc: Exception) -> dict[str, Any]:
    """An error as callers are told it."""
    if isinstance(exc, _TOLD):
        return exc.to_json()
    incident = new_id("inc")
    if isinstance(exc, Unavailable):
        log_.error("request_failed", incident=incident, error=exc.message)
        return Unavailable(f"The gateway is not available now (incident {incident}).", "Try again later.").to_json()
    if isinstance(exc, OutcomeUnknown):
        log_.error("request_failed", incident=incident, error=exc.message)
        return OutcomeUnknown(f"It is not known whether this was done (incident {incident}).", _LOOK).to_json()
    log_.error("request_failed", incident=incident, exc_info=exc)
    return SwitchboardError(f"The gateway could not answer (incident {incident}).", "Try again later.").to_json()


def queried(connection: HTTPConnection, model: type[M]) -> M:
    """Raises InvalidParams."""
    return parsed(model, dict(connection.query_params))


async def body_of(request: Request, model: type[M], limit: int) -> M:
    """Raises InvalidParams, TooLarge, UnsupportedType."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedType(f"The Content-Type {media_type[:80]!r} is not taken.", "Send application/json.")
    try:
        body = await checked_body(request, limit)
    except BadBody as exc:
        raise (TooLarge if exc.status == 413 else InvalidParams)(str(exc), "Send less.") from exc
    return parsed(model, read_json(body))


def read_json(text: bytes | str) -> Any:
    """Raises InvalidParams."""
    try:
        return strict_json(text)
    except NoJson as exc:
        raise InvalidParams(f"The body is no JSON: {exc}.", "Send a JSON object in UTF-8.") from exc


def parsed(model: type[M], value: Any) -> M:
    """Raises InvalidParams that says what is wrong where, and what was there."""
    return checked(model, value, secret=_SECRET, see="specs/session-api.md")
