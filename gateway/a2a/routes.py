"""The callers' HTTP surface: the endpoints of every agent, JSON-RPC and HTTP+JSON. Directory and cards are in discovery.

What stands before every call is in a2a.admission, the transports are in a2a.jsonrpc and a2a.rest.
"""

from __future__ import annotations

from a2a.utils.errors import JSONParseError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.a2a.admission import Admission, Refused
from gateway.a2a.handler import Handler
from gateway.a2a.jsonrpc import Dispatcher
from gateway.a2a.rest import rest_routes
from gateway.settings import Settings


def routes(handler: Handler, admission: Admission, settings: Settings) -> list[Route]:
    face = CallersFace(handler, admission, settings)
    return [
        Route("/agents/{name}", face.call, methods=["POST"]),
        Route("/agents/{name}/", face.call, methods=["POST"]),
        *rest_routes(handler, admission, settings),
    ]


class CallersFace:
    def __init__(self, handler: Handler, admission: Admission, settings: Settings) -> None:
        self.admission = admission
        self.dispatcher = Dispatcher(handler, settings)

    async def call(self, request: Request) -> Response:
        try:
            await self.admission.admit(request, "application/json")
            if request.state.json is None:
                raise Refused(400, JSONParseError("The body is empty."))
        except Refused as exc:
            return exc.jsonrpc()
        return await self.dispatcher.answer(request)
