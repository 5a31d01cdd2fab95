"""Sessions that move: `GET /owner/sessions/{id}/export` and `POST /owner/sessions/import`, JSON Lines both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.auth.owners import OwnerKey
from gateway.errors import SwitchboardError
from gateway.files.store import Store
from gateway.owner.border import registry_errors
from gateway.owner.context import Owner
from gateway.owner.http import NO_STORE, refused
from gateway.transfer import export
from gateway.transfer.load import Whose, load

MEDIA_TYPE = "application/x-ndjson"
READ_ON_SECONDS = 30.0


def routes(owner: Owner, key: OwnerKey, store: Store) -> list[Route]:
    settings = owner.settings

    async def give(request: Request) -> Response:
        try:
            key.check(request.headers.get("authorization"))
            found = await owner.database.read(lambda conn: export.head(conn, request.path_params["id"]))
        except SwitchboardError as exc:
            return refused(exc)
        place = settings.sessions_dir / found.session["id"] if request.query_params.get("journal") == "true" else None
        lines = export.lines(owner.database, settings.archive_files, store, found, place)
        return StreamingResponse(lines, media_type=MEDIA_TYPE, headers=NO_STORE)

    async def take(request: Request) -> Response:
        whose = Whose(request.query_params.get("agent"), request.query_params.get("principal"))
        body = request.stream()
        try:
            key.check(request.headers.get("authorization"))
        except SwitchboardError as exc:
            return refused(exc)
        try:
            with registry_errors():
                return JSONResponse(await load(owner.database, settings.sessions_dir, store, body, whose))
        except SwitchboardError as exc:
            await _read_on(body)
            return refused(exc)
        except ClientDisconnect:
            return Response(status_code=400)

    return [
        Route("/owner/sessions/{id}/export", give, methods=["GET"]),
        Route("/owner/sessions/import", take, methods=["POST"]),
    ]


async def _read_on(body: AsyncIterator[bytes]) -> None:
    """Whoever still sends hears nothing: take the rest, for a while, so that the answer arrives."""
    with anyio.move_on_after(READ_ON_SECONDS), suppress(ClientDisconnect):
        async for _ in body:
            pass
