"""The session API as an OpenAPI 3.1 document, made from its operations and shapes: `python -m gateway.sessions.openapi`.

It stands in specs/session-api.openapi.json; tests hold it to what is made here, and the server to what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.idempotency import HEADER
from gateway.sessions.routes import OPERATIONS, PREFIX, Operation
from gateway.sessions.shapes import Problem

Json = dict[str, Any]
REF = "#/components/schemas/{model}"
JSON = "application/json"
DESCRIPTION = "Sessions of agents for scripts and browsers; see specs/session-api.md. The WebSocket bridge is described there."

_SAID = {
    400: "What was sent makes no sense.",
    401: "The key or token does not hold.",
    403: "A client token is not for this.",
    404: "There is none, or it is not yours.",
    409: "Not in this state.",
    413: "The body is too large.",
    415: "The body is no application/json.",
    422: "The idempotency key was used for another request.",
    429: "Too many requests, or too much at work.",
    503: "The gateway is not available now; nothing was done. Without Retry-After it may have been: the code says so.",
}
_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A caller's key, an OpenID Connect token, or a client token.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A caller's key."},
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A client token, where a browser cannot set headers.",
    },
}


def document() -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Switchboard sessions", "version": "1", "description": DESCRIPTION},
        "servers": [{"url": PREFIX}],
        "security": [{name: []} for name in _SECURITY] + [{}],
        "paths": _paths(),
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY},
    }


def statuses(op: Operation) -> list[int]:
    """Every status an operation answers with."""
    found = {int(op.status), 400, 401, 403, 429, 503, *op.errors}
    return sorted(found | ({404} if op.of_one else set()) | ({413, 415} if op.body else set()))


def _paths() -> Json:
    paths: Json = {}
    for op in OPERATIONS:
        paths.setdefault(op.path, {})[op.method.lower()] = _operation(op)
    return paths


def _operation(op: Operation) -> Json:
    made: Json = {"operationId": op.name, "summary": op.summary, "parameters": [*_in_path(op), *_in_query(op), *_headers(op)]}
    if op.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(op.body)}}}
    return made | {"responses": {str(status): _response(op, status) for status in statuses(op)}}


def _response(op: Operation, status: int) -> Json:
    if status == op.status:
        said = {"description": HTTPStatus(status).phrase}
        return said if status == HTTPStatus.NO_CONTENT else said | {"content": _content(op)}
    if status == HTTPStatus.NO_CONTENT:
        return {"description": "To an EventSource that has read a session to its end: do not come again."}
    made: Json = {"description": _SAID[status], "content": {JSON: {"schema": _ref(Problem)}}}
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return made


def _content(op: Operation) -> Json:
    """Of JSON a schema; a stream is a text of it."""
    return {type: {"schema": _ref(op.answers) if type == JSON else {"type": "string"}} for type in op.media_types}


def _in_path(op: Operation) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", op.path)
    ]


def _in_query(op: Operation) -> list[Json]:
    if op.query is None:
        return []
    schema = op.query.model_json_schema(ref_template=REF)
    found = []
    for name, of in schema["properties"].items():
        made = {"name": name, "in": "query", "description": of.pop("description", ""), "schema": _plain(of)}
        found.append(made | ({"explode": False} if "items" in made["schema"] else {}))
    return found


def _plain(schema: Json) -> Json:
    """A parameter that may be left out is not null then."""
    schema.pop("title", None)
    *others, _ = schema.pop("anyOf", [None])
    for other in others:
        schema.pop("default", None)
        schema |= other
    return schema


def _headers(op: Operation) -> list[Json]:
    names = []
    if op.body is not None and "idempotency_key" in op.body.model_fields:
        names.append((HEADER, "Done once under it; see specs/session-api.md."))
    if op.query is not None and "after" in op.query.model_fields:
        names.append(("Last-Event-ID", "As `after`, and before it."))
    return [{"name": name, "in": "header", "description": said, "schema": {"type": "string"}} for name, said in names]


def _models() -> Iterable[type[BaseModel]]:
    for op in OPERATIONS:
        yield from filter(None, (op.body, op.answers))
    yield Problem


def _schemas() -> Json:
    taken = {op.body for op in OPERATIONS if op.body}
    modes: Any = [(model, "validation" if model in taken else "serialization") for model in dict.fromkeys(_models())]
    _, schema = models_json_schema(modes, ref_template=REF)
    found: Json = schema["$defs"]
    return {name: found[name] for name in sorted(found) if name != "Nothing"}


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": REF.format(model=model.__name__)}


def main() -> None:
    print(json.dumps(document(), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
