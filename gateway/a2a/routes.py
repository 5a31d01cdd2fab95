"""The callers' HTTP surface: directory, cards, and the endpoints of every agent, JSON-RPC and HTTP+JSON.

What stands before every call is in a2a.admission, the transports are in a2a.jsonrpc and a2a.rest.
"""

from __future__ import annotations

from a2a.utils.errors import JSONParseError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.a2a.admission import Admission, Directory, Refused
from gateway.a2a.cards import cached, card, directory_entry, readable_by_03
from gateway.a2a.handler import Handler
from gateway.a2a.jsonrpc import Dispatcher
from gateway.a2a.rest import rest_routes
from gateway.settings import Settings


def routes(handler: Handler, directory: Directory, settings: Settings) -> list[Route]:
    face = CallersFace(handler, directory, settings)
    return [
        Route("/agents", face.list, methods=["GET"]),
        Route("/agents/{name}/.well-known/agent-card.json", face.card, methods=["GET"]),
        Route("/agents/{name}", face.call, methods=["POST"]),
        Route("/agents/{name}/", face.call, methods=["POST"]),
        *rest_routes(handler, face.admission, settings),
    ]


class CallersFace:
    def __init__(self, handler: Handler, directory: Directory, settings: Settings) -> None:
        self.directory, self.settings = directory, settings
        self.admission = Admission(directory, settings)
        self.dispatcher = Dispatcher(handler, settings)

    async def list(self, request: Request) -> Response:
        faces = [face for face in await self.directory.faces() if face.public]
        return JSONResponse({"agents": [directory_entry(face, self.settings.url) for face in faces]})

    async def card(self, request: Request) -> Response:
        face = await self.admission.face(request.path_params["name"])
        if face is None:
            return _no_agent(request)
        made = readable_by_03(card(face, self.settings.url, self.settings.grpc_public_address))
        data, headers = cached(made, face.updated_at)
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="application/json", headers=headers)

    async def call(self, request: Request) -> Response:
        try:
            await self.admission.admit(request, "application/json")
            if request.state.json is None:
                raise Refused(400, JSONParseError("The body is empty."))
        except Refused as exc:
            return exc.jsonrpc()
        return await self.dispatcher.answer(request)


def _no_agent(request: Request) -> Response:
    name = request.path_params["name"][:80]
    return JSONResponse({"code": "not_found", "message": f"Agent {name!r} was not found.", "hint": "GET /agents"}, 404)
