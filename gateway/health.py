"""What a load balancer asks: `/health`, whether the process lives; `/ready`, whether it can take work now."""

from __future__ import annotations

import anyio
from sqlalchemy import literal, select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.db.engine import Database
from gateway.errors import Unavailable

READY_SECONDS = 2.0  # for the database to answer


def routes(database: Database) -> list[Route]:
    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> JSONResponse:
        with anyio.move_on_after(READY_SECONDS):
            try:
                await database.read(lambda conn: conn.execute(select(literal(1))).scalar())
            except Unavailable:
                return _unavailable()
            return JSONResponse({"status": "ok"})
        return _unavailable()

    return [Route("/health", health, methods=["GET"]), Route("/ready", ready, methods=["GET"])]


def _unavailable() -> JSONResponse:
    """Without a word of what failed: anybody may ask."""
    said = Unavailable("The gateway cannot take work now: its database does not answer.", "Try again later.")
    return JSONResponse(said.to_json(), said.codes.http, {"Retry-After": "1"})
