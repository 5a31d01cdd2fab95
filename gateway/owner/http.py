"""`POST /owner`: the key, the size of the body, then JSON-RPC."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.auth.owners import OwnerKey
from gateway.errors import SwitchboardError, TooLarge
from gateway.owner.context import Owner
from gateway.owner.methods import METHODS
from gateway.owner.rpc import answer

NO_STORE = {"Cache-Control": "no-store"}


def routes(owner: Owner, key: OwnerKey) -> list[Route]:
    async def endpoint(request: Request) -> Response:
        try:
            key.check(request.headers.get("authorization"))
            body = await _body(request, owner.settings.max_body_bytes)
        except SwitchboardError as exc:
            return refused(exc)
        except ClientDisconnect:
            return Response(status_code=400)
        found = await answer(body, owner, METHODS)
        return Response(status_code=204) if found is None else JSONResponse(found, headers=NO_STORE)

    return [Route("/owner", endpoint, methods=["POST"])]


async def _body(request: Request, limit: int) -> bytes:
    """Raises TooLarge as soon as it is known."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is larger than {limit} bytes.", "Send less, or raise SWITCHBOARD_MAX_BODY_BYTES.")


def refused(error: SwitchboardError) -> Response:
    headers = {**NO_STORE, "WWW-Authenticate": "Bearer"} if error.codes.http == 401 else NO_STORE
    return JSONResponse(error.to_json(), error.codes.http, headers)
