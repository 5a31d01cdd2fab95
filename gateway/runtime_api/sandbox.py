"""The sandbox tools over HTTP: one call as plain JSON, or as an MCP server for any agent that speaks it.

`request.state.turn` is the turn whose token came with the request (gateway.hands.service.Brain). Errors are raised, and
answered as all errors of the runtime API are.
"""

from __future__ import annotations

import json

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import InvalidParams, TooLarge
from gateway.runtime_api.held import Calls
from gateway.runtime_api.mcp import Acts, Mcp
from gateway.runtime_api.shapes import Answer, Call
from gateway.wire import BadBody, shallow_body

CALL, MCP = "/runtime/v1/sandbox/call", "/runtime/v1/mcp"


def routes(hands: Acts, max_body: int) -> list[Route]:
    """`max_body`: bytes of a request, at most."""
    calls = Calls()
    mcp = Mcp(hands, calls)

    async def call(request: Request) -> Response:
        brain = request.state.turn
        async with brain.room:  # few bodies at once; what was made of one is counted from here on
            body = await _body(request, max_body)
            asked, size = _read(body), len(body)
            del body
        held = calls.take(brain.turn.id, size)
        try:
            result = await hands.call(brain, asked.call_id, asked.tool, asked.input)
            return held.answered(Answer(call_id=asked.call_id, **result.to_json()).model_dump())
        except BaseException:
            held.close()
            raise

    async def speak(request: Request) -> Response:
        return await mcp.answer(request.state.turn, request.headers, lambda: _body(request, max_body))

    return [Route(CALL, call, methods=["POST"]), Route(MCP, speak, methods=["POST"])]


async def _body(request: Request, limit: int) -> bytes:
    try:
        return await shallow_body(request, limit)
    except BadBody as exc:
        hint = "Write large files in pieces, by bash." if exc.status == 413 else ""
        raise (TooLarge if exc.status == 413 else InvalidParams)(str(exc), hint) from exc


def _read(body: bytes) -> Call:
    try:
        return Call.model_validate(json.loads(body))
    except ValidationError as exc:
        one = exc.errors(include_url=False)[0]
        place = ".".join(map(str, one["loc"])) or "the body"
        raise InvalidParams(f"{place}: {one['msg']}.", "Send call_id, tool and input: specs/runtime-contract.md.") from exc
    except ValueError as exc:
        raise InvalidParams(f"The body is no JSON: {exc}.", "Send a JSON object in UTF-8.") from exc
