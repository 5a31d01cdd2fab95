"""`POST /owner`: the key, the size of the body, then JSON-RPC."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.auth.owners import OwnerKey
from gateway.errors import TABLE, OutcomeUnknown, SwitchboardError, TooLarge, Unavailable
from gateway.owner.context import Owner
from gateway.owner.methods import METHODS
from gateway.owner.rpc import answer
from gateway.wire import BadBody, whole_body

NO_STORE = {"Cache-Control": "no-store"}
AWAY = {**NO_STORE, "Retry-After": "1"}


def routes(owner: Owner, key: OwnerKey) -> list[Route]:
    limit = owner.settings.max_body_bytes
    too_large = TooLarge(f"The request is larger than {limit} bytes.", "Send less, or raise SWITCHBOARD_MAX_BODY_BYTES.")

    async def endpoint(request: Request) -> Response:
        try:
            key.check(request.headers.get("authorization"))
            body = await whole_body(request, limit)
        except SwitchboardError as exc:
            return refused(exc)
        except BadBody as exc:
            return refused(too_large) if exc.status == 413 else Response(status_code=exc.status)
        found = await answer(body, owner, METHODS)
        if found is None:
            return Response(status_code=204)
        code = found.get("error", {}).get("code") if isinstance(found, dict) else None
        if code == TABLE[Unavailable.code].jsonrpc:
            return JSONResponse(found, 503, AWAY)
        return JSONResponse(found, 503 if code == TABLE[OutcomeUnknown.code].jsonrpc else 200, NO_STORE)

    return [Route("/owner", endpoint, methods=["POST"])]


def refused(error: SwitchboardError) -> Response:
    headers = {**NO_STORE, "WWW-Authenticate": "Bearer"} if error.codes.http == 401 else NO_STORE
    return JSONResponse(error.to_json(), error.codes.http, headers)
