"""The sandbox tools as an MCP server: streamable HTTP, one JSON answer a request, no session, no stream.

Both eras are spoken (https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning): clients that begin with
`initialize` (2025-03-26 to 2025-11-25), and those that say with each request what they speak (2026-07-28).

A call may name itself in `_meta`, as `switchboard/call_id`: then it is done once, however often it is sent. Facts that are
no text come back in `_meta`, too: `switchboard/exit_code` and the like. There is no structured content: clients that get some
leave out the text, so that the whole output would have to come twice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from starlette.responses import JSONResponse, Response

from gateway.clock import new_id
from gateway.errors import CallReused, Crowded
from gateway.hands.service import Brain
from gateway.hands.tools import TOOLS, Result, Tool, wrong
from gateway.runtime_api.held import Calls
from gateway.runtime_api.shapes import Id

LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
MODERN = "2026-07-28"
SUPPORTED = (MODERN, *LEGACY)
CALL_ID = "switchboard/call_id"
TTL_MS = 3_600_000  # of the list of tools, which never changes
INSTRUCTIONS = "Tools that act in the workspace of this conversation. Paths are relative to it."

_VERSION, _CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
_SERVER = "io.modelcontextprotocol/serverInfo"
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

Json = dict[str, Any]
_ID: TypeAdapter[str] = TypeAdapter(Id)


class Refused(Exception):
    """An error of JSON-RPC, and the HTTP status it goes out with."""

    def __init__(self, code: int, message: str, status: int = 400, data: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message} | ({"data": data} if data else {})


class Acts(Protocol):
    """Whoever does the calls: `gateway.hands.service.Hands`."""

    async def call(self, brain: Brain, call_id: str, tool: str, given: Any) -> Result: ...

    def cancel(self, turn_id: str, call_id: str) -> None: ...


class Mcp:
    def __init__(self, hands: Acts, calls: Calls) -> None:
        self._hands, self._calls = hands, calls
        self._running: dict[tuple[str, str], str] = {}  # (turn, id of the request) -> id of the call

    async def answer(self, brain: Brain, headers: Mapping[str, str], read: Callable[[], Awaitable[bytes]]) -> Response:
        """One message, whose body `read` gets. Raises what that does, Fenced and Unavailable."""
        id: Any = None
        try:
            if "origin" in headers:
                raise Refused(INVALID_REQUEST, "Web pages have no business here.", 403)
            async with brain.room:  # few bodies at once; what was made of one is counted with its call
                body = await read()
                message, size = _message(body), len(body)
                del body
            id = message.get("id")
            if "id" not in message or "method" not in message:
                self._notified(brain, message)
                return Response(status_code=202)
            method, params = message["method"], message.get("params", {})
            if not isinstance(params, dict):
                raise Refused(INVALID_PARAMS, "params is no object")
            modern = _is_modern(headers, method, params)
            if method == "tools/call":
                return await self._call(brain, id, params, modern, size)
            return JSONResponse({"jsonrpc": "2.0", "id": id, "result": _result(method, params, modern)})
        except Refused as exc:
            return JSONResponse({"jsonrpc": "2.0", "id": id, "error": exc.error}, exc.status)

    async def _call(self, brain: Brain, id: Any, params: Json, modern: bool, size: int) -> Response:
        try:
            held = self._calls.take(brain.turn.id, size)
        except Crowded as exc:
            return JSONResponse({"jsonrpc": "2.0", "id": id, "result": _complete(_crowded(params, exc), modern)})
        try:
            result = _complete(await self._called(brain, id, params), modern)
            return held.answered({"jsonrpc": "2.0", "id": id, "result": result})
        except BaseException:
            held.close()
            raise

    async def _called(self, brain: Brain, request_id: Any, params: Json) -> Json:
        name, given, meta = params.get("name"), params.get("arguments", {}), _meta(params)
        if not isinstance(name, str) or name not in TOOLS:
            raise Refused(INVALID_PARAMS, f"There is no tool {str(name)[:80]!r}. There are: {', '.join(TOOLS)}.", 200)
        call_id = _call_id(meta)
        key = (brain.turn.id, json.dumps(request_id))
        self._running[key] = call_id
        try:
            return _told(call_id, await self._hands.call(brain, call_id, name, given))
        except CallReused as exc:
            raise Refused(INVALID_PARAMS, f"{exc.message} {exc.hint}", 200) from exc
        finally:
            self._running.pop(key, None)

    def _notified(self, brain: Brain, message: Json) -> None:
        params = message.get("params")
        if message.get("method") == "notifications/cancelled" and isinstance(params, dict):
            call_id = self._running.get((brain.turn.id, json.dumps(params.get("requestId"))))
            if call_id is not None:
                self._hands.cancel(brain.turn.id, call_id)


def _result(method: Any, params: Json, modern: bool) -> Json:
    """Of all but calls."""
    match method:
        case "initialize" if not modern:
            return _initialized(params)
        case "ping":
            return _complete({}, modern)
        case "server/discover" if modern:
            about = {"supportedVersions": list(SUPPORTED), "capabilities": {"tools": {}}, "instructions": INSTRUCTIONS}
            return _complete(about | _LASTING, modern)
        case "tools/list":
            listed = {"tools": [_described(tool) for tool in TOOLS.values()]}
            return _complete(listed | (_LASTING if modern else {}), modern)
    raise Refused(NO_METHOD, f"There is no method {str(method)[:80]!r}.", 404 if modern else 200)


def _crowded(params: Json, exc: Crowded) -> Json:
    """In words for the model, which can wait."""
    return _told(_call_id(_meta(params)), wrong(f"{exc.message} {exc.hint}"))


def _call_id(meta: Json) -> str:
    """By the rule of all ids of an image's own; a call that does not name itself gets one."""
    if CALL_ID not in meta:
        return new_id("call")
    try:
        return _ID.validate_python(meta[CALL_ID], strict=True)
    except ValidationError as exc:
        raise Refused(INVALID_PARAMS, f"{CALL_ID} is not 1 to 128 of A-Z a-z 0-9 . _ : -", 200) from exc


def _message(body: bytes) -> Json:
    try:
        message = json.loads(body)
    except ValueError as exc:
        raise Refused(PARSE_ERROR, f"The body is no JSON: {exc}") from exc
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Refused(INVALID_REQUEST, "Send one JSON-RPC 2.0 message; batches are not taken.")
    return message


def _is_modern(headers: Mapping[str, str], method: Any, params: Json) -> bool:
    """Whether a request says what it speaks. Raises Refused where that makes no sense."""
    meta, said = _meta(params), headers.get("mcp-protocol-version")
    wanted = meta.get(_VERSION)
    version = wanted or said
    if version is not None and version not in SUPPORTED:
        raise _unsupported(version)
    if wanted is None:
        if said == MODERN:
            raise Refused(INVALID_PARAMS, f"_meta has no {_VERSION}.")
        return False
    if wanted != MODERN:
        raise _unsupported(wanted)  # one that begins with `initialize`
    if not isinstance(meta.get(_CAPABILITIES), dict):
        raise Refused(INVALID_PARAMS, f"_meta has no {_CAPABILITIES}.")
    _same("MCP-Protocol-Version", said, wanted)
    _same("Mcp-Method", headers.get("mcp-method"), method)
    if method == "tools/call":
        _same("Mcp-Name", headers.get("mcp-name"), params.get("name"))
    return True


def _same(header: str, said: str | None, meant: Any) -> None:
    if said != meant:
        raise Refused(HEADER_MISMATCH, f"The header {header} is {said!r}, the body says {str(meant)[:80]!r}.")


def _unsupported(version: Any) -> Refused:
    data = {"supported": list(SUPPORTED), "requested": str(version)[:80]}
    return Refused(UNSUPPORTED_VERSION, "Unsupported protocol version", data=data)


def _meta(params: Json) -> Json:
    meta = params.get("_meta")
    return meta if isinstance(meta, dict) else {}


_LASTING = {"ttlMs": TTL_MS, "cacheScope": "public"}


def _complete(result: Json, modern: bool) -> Json:
    if not modern:
        return result
    return {"resultType": "complete", **result, "_meta": {**result.get("_meta", {}), _SERVER: _server()}}


def _server() -> Json:
    return {"name": "sandbox", "title": "Sandbox", "version": version("a2a-switchboard")}


def _initialized(params: Json) -> Json:
    wanted = params.get("protocolVersion")
    spoken = wanted if wanted in LEGACY else LEGACY[0]
    about = {"serverInfo": _server(), "instructions": INSTRUCTIONS}
    return {"protocolVersion": spoken, "capabilities": {"tools": {"listChanged": False}}, **about}


def _described(tool: Tool) -> Json:
    hints = {"readOnlyHint": tool.reads_only, "openWorldHint": False}
    return {"name": tool.name, "description": tool.says, "inputSchema": tool.schema(), "annotations": hints}


def _told(call_id: str, result: Result) -> Json:
    facts = result.to_json()
    text = facts.pop("output")
    if result.exit_code:
        text += f"\n[exit code {result.exit_code}]"
    meta = {f"switchboard/{name}": value for name, value in facts.items() if name != "is_error"}
    content = [{"type": "text", "text": text or "(no output)"}]
    return {"content": content, "isError": result.is_error, "_meta": {CALL_ID: call_id, **meta}}
