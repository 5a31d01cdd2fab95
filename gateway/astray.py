"""Requests that lead nowhere: a path there is not, a method its path does not take. Told in the shape of every error."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from gateway.errors import NotFound, SwitchboardError, WrongMethod


async def astray(request: Request, exc: Exception) -> Response:
    """The answer to what the router refuses."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == 405:
        allowed = ", ".join(_methods(request))
        found = WrongMethod(f"{request.method[:20]} is not a method of this path.", f"Use {allowed}.")
        return _answer(found, {"Allow": allowed})
    if exc.status_code == 404:
        return _answer(NotFound(f"There is nothing at {request.url.path[:200]!r}.", "See what there is: GET /agents"))
    return JSONResponse(
        {"code": "usage_error", "message": exc.detail, "hint": "Correct the request."}, exc.status_code, exc.headers
    )


def _methods(request: Request) -> list[str]:
    """Of all routes that have the path: one path may have a route for each method."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    at_path = [route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted(set[str]().union(*at_path))


def _answer(exc: SwitchboardError, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(exc.to_json(), exc.codes.http, headers)
