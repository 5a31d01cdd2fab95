"""What every HTTP call to an agent must pass before it is parsed, whatever its transport: agent, type, size, JSON, tenant.

A call that passes has in its `request.state`: `face`, `principal`, `json` (None without a body).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError as JsonRpcParseError
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    A2AError,
    ContentTypeNotSupportedError,
    InvalidRequestError,
    JSONParseError,
    TaskNotFoundError,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.a2a.cards import Face
from gateway.a2a.versions import HEADER, Version
from gateway.settings import Settings
from gateway.wire import BadBody, checked_body

ANONYMOUS = "anonymous"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Directory(Protocol):
    async def face(self, name: str) -> Face | None: ...


class Refused(Exception):
    """An A2A error with its HTTP status, told in the shape of the transport."""

    def __init__(self, status: int, error: A2AError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.status, self.error, self.headers = status, error, headers

    @classmethod
    def of(cls, error: A2AError) -> Refused:
        """An error with the status the specification gives it."""
        mapping = A2A_ERROR_MAPPING.get(type(error))
        return cls(mapping.http_code if mapping else 500, error)

    def jsonrpc(self) -> Response:
        if isinstance(self.error, JSONParseError):  # JSON-RPC's own business, not HTTP's
            return JSONResponse(build_error_response(None, JsonRpcParseError(message=self.error.message)))
        return JSONResponse(build_error_response(None, self.error), self.status, headers=self.headers)

    def rest(self, version: Version) -> Response:
        """A google.rpc.Status; 0.3 clients look for `type` and `message` beside it."""
        error = InvalidRequestError(self.error.message) if isinstance(self.error, JSONParseError) else self.error
        payload = build_rest_error_payload(error)
        payload["error"]["code"] = self.status
        if version == "0.3":
            payload |= {"type": type(error).__name__, "message": error.message}
        return JSONResponse(payload, self.status, headers=self.headers)


class Admission:
    def __init__(self, directory: Directory, settings: Settings) -> None:
        self._directory, self._settings = directory, settings

    async def face(self, name: str) -> Face | None:
        """The public face of an agent callers may know of."""
        face = await self._directory.face(name)
        return face if face is not None and face.public else None

    async def admit(self, request: Request, *media_types: str) -> None:
        """Raises Refused."""
        name = request.path_params["name"]
        face = await self.face(name)
        if face is None:
            raise Refused(404, no_agent(name))
        request.state.face, request.state.principal = face, ANONYMOUS
        request.state.json = await self._body(request, media_types)
        for tenant in _tenants(request):
            if tenant != face.name:
                raise Refused(404, no_agent(str(tenant)))

    async def _body(self, request: Request, media_types: tuple[str, ...]) -> Any:
        try:
            body = await checked_body(request, self._settings.max_body_bytes)
        except BadBody as exc:
            kind = JSONParseError if exc.status == 400 else InvalidRequestError
            raise Refused(exc.status, kind(str(exc))) from exc
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if body and media_type not in media_types:
            raise Refused(415, ContentTypeNotSupportedError(f"The Content-Type must be {media_types[0]}."))
        return strict_json(body) if body else None


def no_agent(name: str) -> A2AError:
    return TaskNotFoundError(f"Agent {name[:80]!r} was not found.")


def strict_json(body: bytes) -> Any:
    """JSON as its standard has it: no NaN, no half of a surrogate pair. Raises Refused."""
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
        if _SURROGATE.search(body):
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        where = f" {exc}." if isinstance(exc, json.JSONDecodeError) else ""
        raise Refused(400, JSONParseError(f"The body is no JSON.{where}")) from exc
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _tenants(request: Request) -> list[object]:
    """The tenants a call names: in its path, in its body or in its JSON-RPC params."""
    body = request.state.json
    holders = [request.path_params, body, body.get("params") if isinstance(body, dict) else None]
    return [tenant for holder in holders if isinstance(holder, dict) and (tenant := holder.get("tenant"))]


class ContextBuilder(DefaultServerCallContextBuilder):
    """Hands on to the Handler what admission found; the SDK's own checks read the version from the headers."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        context.state["face"], context.state["principal"] = request.state.face, request.state.principal
        context.state["version"] = context.state["headers"][HEADER.lower()] = request.state.version
        return context
