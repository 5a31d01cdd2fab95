"""What every call to an agent must pass before it is parsed: who calls, the agent; over HTTP type, size, JSON, tenant too.

A call that passes has in its `request.state`: `face`, `principal`, `json` (None without a body), `extensions` (what it
activated), and `refused`: what the Handler refuses as who calls is not allowed it. Not every dispatcher of the SDK has a
way to tell that; we tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError as JsonRpcParseError
from a2a.server.request_handlers.response_helpers import build_error_response
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    JSON_RPC_ERROR_CODE_MAP,
    A2AError,
    ContentTypeNotSupportedError,
    InvalidRequestError,
    JSONParseError,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.a2a.cards import Face
from gateway.a2a.extension import activated
from gateway.a2a.security import a2a_error, refusal_headers
from gateway.a2a.versions import HEADER, Version
from gateway.auth.addresses import HEADER as FORWARDED
from gateway.auth.addresses import Proxies
from gateway.auth.callers import Callers, Principal, no_agent
from gateway.errors import SwitchboardError
from gateway.settings import Settings
from gateway.wire import BadBody, NoJson, checked_body, strict_json

SECRETS = ("authorization", "x-api-key")  # a call's context goes far; credentials stay here


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

    @classmethod
    def by(cls, exc: SwitchboardError) -> Refused:
        """A refusal of `auth.callers`."""
        error = a2a_error(exc)
        return cls(A2A_ERROR_MAPPING[type(error)].http_code, error, refusal_headers(exc))

    def jsonrpc(self, id: str | int | None = None) -> Response:
        if isinstance(self.error, JSONParseError):  # JSON-RPC's own business, not HTTP's
            return JSONResponse(build_error_response(None, JsonRpcParseError(message=self.error.message)))
        return JSONResponse(build_error_response(id, self.error), self.status, headers=self.headers)

    def rest(self, version: Version) -> Response:
        """A google.rpc.Status; 0.3 clients look for JSON-RPC's `code`, or `type`, and `message` beside it."""
        error = InvalidRequestError(self.error.message) if isinstance(self.error, JSONParseError) else self.error
        payload = build_rest_error_payload(error)
        payload["error"]["code"] = self.status
        if version == "0.3":
            code = JSON_RPC_ERROR_CODE_MAP.get(type(error), -32603)
            payload |= {"code": code, "type": type(error).__name__, "message": error.message}
        return JSONResponse(payload, self.status, headers=self.headers)


class Admission:
    def __init__(self, directory: Directory, callers: Callers, settings: Settings) -> None:
        self._directory, self._callers, self._settings = directory, callers, settings
        self.proxies = Proxies.trusting(settings.trusted_proxies)

    async def enter(self, headers: Mapping[str, str], name: str, address: str) -> tuple[Face, Principal]:
        """The agent of that name and who calls it, from which address. Raises SwitchboardError, as `auth.callers` has it."""
        principal = await self._callers.authenticate(headers, address)
        return self._callers.admit(principal, await self._directory.face(name), name), principal

    async def admit(self, request: Request, *media_types: str) -> None:
        """Raises Refused."""
        peer = request.client.host if request.client else ""
        address = self.proxies.caller(peer, request.headers.getlist(FORWARDED))
        try:
            face, principal = await self.enter(request.headers, request.path_params["name"], address)
        except SwitchboardError as exc:
            raise Refused.by(exc) from exc
        request.state.face, request.state.principal, request.state.refused = face, principal, []
        request.state.extensions = activated(request.headers.items())
        request.state.json = await self._body(request, media_types)
        for tenant in _tenants(request):
            if tenant != face.name:
                raise Refused.by(no_agent(str(tenant)))

    async def _body(self, request: Request, media_types: tuple[str, ...]) -> Any:
        try:
            body = await checked_body(request, self._settings.max_body_bytes)
        except BadBody as exc:
            kind = JSONParseError if exc.status == 400 else InvalidRequestError
            raise Refused(exc.status, kind(str(exc))) from exc
        media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if body and media_type not in media_types:
            raise Refused(415, ContentTypeNotSupportedError(f"The Content-Type must be {media_types[0]}."))
        try:
            return strict_json(body) if body else None
        except NoJson as exc:
            raise Refused(400, JSONParseError(f"The body is no JSON: {exc}.")) from exc


def _tenants(request: Request) -> list[object]:
    """The tenants a call names: in its path, in its body or in its JSON-RPC params."""
    body = request.state.json
    holders = [request.path_params, body, body.get("params") if isinstance(body, dict) else None]
    return [tenant for holder in holders if isinstance(holder, dict) and (tenant := holder.get("tenant"))]


class ContextBuilder(DefaultServerCallContextBuilder):
    """Hands on to the Handler what admission found; the SDK's own checks read the version from the headers."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        for name in SECRETS:
            context.state["headers"].pop(name, None)
        for name in ("face", "principal", "refused", "extensions"):
            context.state[name] = getattr(request.state, name)
        context.state["version"] = context.state["headers"][HEADER.lower()] = request.state.version
        return context
