"""Callers' authentication as A2A tells it: what a card declares, the extended card, and refusals.

A refusal is an HTTP status (401 with WWW-Authenticate, 404, 429 with Retry-After, 503) around a JSON-RPC error. What
the handler refuses is entered into the SDK's tables, so that each of its transports finds code, status and reason.
"""

from __future__ import annotations

from typing import Any

from a2a.server.jsonrpc_models import JSONRPCError
from a2a.server.request_handlers.response_helpers import EXCEPTION_MAP
from a2a.utils import errors as sdk

from gateway.a2a.cards import Face
from gateway.auth.oidc import discovery_url
from gateway.errors import (
    TABLE,
    KeyReused,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    SwitchboardError,
    Unavailable,
    WrongKey,
)
from gateway.settings import Settings

Json = dict[str, Any]


class SignInError(sdk.A2AError):
    """Nobody signed in, and somebody has to."""


class TooManyError(sdk.A2AError):
    """`data["retryAfter"]`: seconds after which another try may do."""


class UnavailableError(sdk.A2AError):
    pass


class OutcomeUnknownError(sdk.A2AError):
    """What was asked for may be done, or not."""


class KeyReusedError(sdk.A2AError):
    """An idempotency key that stands for another request."""


def _enter(error: type[sdk.A2AError], code: int, mapping: sdk.ErrorMapping) -> None:
    sdk.JSON_RPC_ERROR_CODE_MAP[error] = code
    sdk.A2A_ERROR_MAPPING[error] = mapping
    sdk.A2A_ERROR_REASONS[error] = mapping.reason
    EXCEPTION_MAP[error] = JSONRPCError


_enter(SignInError, TABLE[NotAllowed.code].jsonrpc, sdk.ErrorMapping(401, "UNAUTHENTICATED", "UNAUTHENTICATED"))
_enter(TooManyError, TABLE[RateLimited.code].jsonrpc, sdk.ErrorMapping(429, "RESOURCE_EXHAUSTED", "RATE_LIMITED"))
_enter(KeyReusedError, TABLE[KeyReused.code].jsonrpc, sdk.ErrorMapping(422, "INVALID_ARGUMENT", "IDEMPOTENCY_KEY_REUSED"))
_enter(UnavailableError, TABLE[Unavailable.code].jsonrpc, sdk.ErrorMapping(503, "UNAVAILABLE", "UNAVAILABLE"))
_enter(OutcomeUnknownError, TABLE[OutcomeUnknown.code].jsonrpc, sdk.ErrorMapping(503, "UNKNOWN", "OUTCOME_UNKNOWN"))

_LOOK = (
    "A message sent again under its Idempotency-Key is done once; a streaming one sent again as it was, with its messageId and"
    " Last-Event-ID: 0, never twice."
)


def a2a_error(exc: SwitchboardError) -> sdk.A2AError:
    """A refusal of `gateway.auth.callers` as A2A's error, for any transport."""
    match exc:
        case NotAllowed():
            return SignInError(exc.said)
        case RateLimited():
            return TooManyError(exc.said, {"retryAfter": str(exc.retry_after)})
        case KeyReused():
            return KeyReusedError(exc.said)
        case NotFound():
            return sdk.TaskNotFoundError(exc.said)
        case Unavailable():
            incident = f" (incident {exc.incident})" if exc.incident else ""
            return UnavailableError(f"The agent is not available now. Try again later{incident}.")
        case OutcomeUnknown():
            incident = f" (incident {exc.incident})" if exc.incident else ""
            return OutcomeUnknownError(f"It is not known whether this was done{incident}. {_LOOK}")
    return sdk.InternalError("The agent could not answer.")


def refusal_headers(exc: SwitchboardError) -> dict[str, str]:
    """The headers that belong to a refusal, whatever the transport over HTTP."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(exc, NotAllowed):
        headers["WWW-Authenticate"] = challenge(isinstance(exc, WrongKey))
    elif isinstance(exc, RateLimited):
        headers["Retry-After"] = str(exc.retry_after)
    elif isinstance(exc, Unavailable):
        headers["Retry-After"] = "1"
    return headers


def challenge(wrong: bool = False) -> str:
    """RFC 6750, section 3."""
    return 'Bearer realm="agents"' + (', error="invalid_token"' if wrong else "")


# -- cards


def declared(face: Face, settings: Settings) -> Json:
    """securitySchemes and securityRequirements of a card (spec v1.0, section 4.5): what the gateway really asks for.

    A public agent asks for nothing, but names the schemes where its extended card can be had with one.
    """
    if face.public and face.extended is None:
        return {}
    key = "An API key from whoever runs this agent."
    schemes: Json = {
        "bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer", "description": key}},
        "apiKey": {"apiKeySecurityScheme": {"location": "header", "name": "X-API-Key", "description": key}},
    }
    if settings.oidc_issuer:
        schemes["openIdConnect"] = {"openIdConnectSecurityScheme": {"openIdConnectUrl": discovery_url(settings.oidc_issuer)}}
    if face.public:
        return {"securitySchemes": schemes}
    return {"securitySchemes": schemes, "securityRequirements": [{"schemes": {name: {"list": []}}} for name in schemes]}


def extended(card: Json, face: Face) -> Json:
    """The card for callers who signed in. Raises ExtendedAgentCardNotConfiguredError where there is none."""
    if face.extended is None:
        raise sdk.ExtendedAgentCardNotConfiguredError
    more = [_skill(skill) for skill in face.extended["skills"]]
    ids = {skill["id"] for skill in more}
    skills = [skill for skill in card["skills"] if skill["id"] not in ids]
    return {**card, "description": face.extended["description"] or card["description"], "skills": [*skills, *more]}


def _skill(skill: Json) -> Json:
    """A skill with what every skill must have (spec v1.0, section 4.4.5)."""
    must = {"description": skill["description"] or skill["name"], "tags": skill["tags"] or [skill["id"]]}
    examples = {"examples": skill["examples"]} if skill["examples"] else {}
    return {"id": skill["id"], "name": skill["name"], **must, **examples}
