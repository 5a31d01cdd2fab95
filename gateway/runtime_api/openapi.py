"""The runtime API as an OpenAPI 3.1 document, and its events as a JSON Schema, made from their shapes.

python -m gateway.runtime_api.openapi         specs/runtime-api.openapi.json
python -m gateway.runtime_api.openapi events  specs/runtime-contract.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.runtime_api.shapes import Alive, Answer, Appended, Batch, Call, Page, Problem, Query, TurnInput

Json = dict[str, Any]

PREFIX = "/runtime/v1"
REF = "#/components/schemas/{model}"
_DESCRIPTION = "What the image of a custom runtime speaks to; see specs/runtime-contract.md."
_SAID = {
    "400": "What was sent makes no sense; nothing of it was taken.",
    "401": "The token is missing or was not made here.",
    "409": "turn_superseded or turn_ended: this attempt writes nothing more. Exit.",
    "413": "The body is too large.",
    "503": "The gateway is not available now. Try again, with the same ids.",
}
_OPERATIONS: tuple[tuple[str, str, str, str, type[BaseModel] | None, type[BaseModel]], ...] = (
    ("get", "/turn", "turn", "What the turn is to do.", None, TurnInput),
    ("get", "/events", "read_events", "The session's log from a cursor, and what is asked of the turn meanwhile.", None, Page),
    ("post", "/events", "append_events", "Append events: all of them or none, each id once.", Batch, Appended),
    ("post", "/heartbeat", "heartbeat", "The turn is alive, though it says nothing.", None, Alive),
    ("post", "/sandbox/call", "sandbox_call", "Call a tool of the sandbox, each id once.", Call, Answer),
)
_MODELS: tuple[type[BaseModel], ...] = (TurnInput, Page, Batch, Appended, Alive, Call, Answer, Problem)


def document() -> Json:
    paths: Json = {}
    for method, path, *rest in _OPERATIONS:
        paths.setdefault(f"{PREFIX}{path}", {})[method] = _operation(path, method, *rest)  # type: ignore[arg-type]
    modes: Any = [(model, "validation" if model in (Batch, Call) else "serialization") for model in _MODELS]
    found = models_json_schema(modes, ref_template=REF)[1]["$defs"]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Switchboard runtime API", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "http://127.0.0.1:3129", "description": "Within the container: RUNTIME_API_URL."}],
        "security": [{"turn": []}],
        "paths": paths,
        "components": {
            "schemas": {name: found[name] for name in sorted(found)},
            "securitySchemes": {"turn": {"type": "http", "scheme": "bearer", "description": "TURN_TOKEN."}},
        },
    }


def events() -> Json:
    """The body of an append."""
    schema = Batch.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Events of contract version 1"}


def _operation(path: str, method: str, name: str, summary: str, body: type[BaseModel] | None, answers: type[BaseModel]) -> Json:
    made: Json = {"operationId": name, "summary": summary}
    if (method, path) == ("get", "/events"):
        made["parameters"] = [_parameter(name, of) for name, of in Query.model_json_schema()["properties"].items()]
    if body is not None:
        made["requestBody"] = {"required": True, "content": _content(body)}
    said = _SAID | ({"422": "The call's id stands for another call."} if body is Call else {})
    told = {status: {"description": text, "content": _content(Problem)} for status, text in said.items()}
    return made | {"responses": {"200": {"description": "OK", "content": _content(answers)}, **told}}


def _parameter(name: str, schema: Json) -> Json:
    schema.pop("title")
    return {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}


def _content(model: type[BaseModel]) -> Json:
    return {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}


def main() -> None:
    print(json.dumps(events() if sys.argv[1:] == ["events"] else document(), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
