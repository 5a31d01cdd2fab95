"""specs/runtime-contract.schema.json and runtime-api.openapi.json are made from what the API checks by. [RUN-1]"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from gateway.runtime_api.openapi import PREFIX, document, events
from gateway.runtime_api.shapes import Batch

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "specs/runtime-contract.schema.json").read_text("utf-8"))
DOCUMENT = json.loads((ROOT / "specs/runtime-api.openapi.json").read_text("utf-8"))
CONTRACT = (ROOT / "specs/runtime-contract.md").read_text("utf-8")

GOOD: list[dict[str, Any]] = [
    {"type": "chunk", "text": "a"},
    {"type": "status", "text": "reading"},
    {"type": "thinking", "text": "hm"},
    {"type": "tool_start", "call_id": "c1", "tool": "shell", "input": {"command": "ls"}},
    {"type": "tool_result", "call_id": "c1", "output": "x", "is_error": True, "exit_code": None},
    {"type": "artifact", "name": "a", "parts": [{"text": ""}, {"data": None}, {"raw": "eA==", "mediaType": "text/plain"}]},
    {"type": "ask", "question": "Which?"},
    {"type": "message", "parts": [{"url": "https://example.com/a"}]},
    {"type": "steered", "steer": "trn_1"},
    {"type": "usage", "input_tokens": 3, "cost_usd": 0.5},
    {"type": "notice", "kind": "retry", "text": "once more"},
    {"type": "done", "yield_reason": "failed", "error": {"category": "rate_limit", "text": "429"}},
    {"type": "done"},
]
BAD: list[dict[str, Any]] = [
    {"type": "chunk"},
    {"type": "chunk", "text": ""},
    {"type": "chunk", "text": 5},
    {"type": "chunk", "text": "a" * 262_145},
    {"type": "chunk", "text": "a", "level": "internal"},
    {"type": "raw", "line": "x"},
    {"type": "status", "text": "a" * 2001},
    {"type": "tool_start", "call_id": "c 1", "tool": "shell", "input": {}},
    {"type": "tool_start", "call_id": "c1", "tool": "shell", "input": []},
    {"type": "tool_result", "call_id": "c1", "is_error": "no"},
    {"type": "artifact", "name": "a", "parts": []},
    {"type": "artifact", "name": "a", "parts": [{"text": "a", "url": "b"}]},
    {"type": "artifact", "name": "a", "parts": [{"filename": "a"}]},
    {"type": "artifact", "name": "a", "parts": [{"text": None}]},
    {"type": "artifact", "name": "a", "parts": [{"stored": {}}]},
    {"type": "usage", "input_tokens": -1},
    {"type": "usage", "input_tokens": 1.5},
    {"type": "done", "yield_reason": "bored"},
    {"type": "done", "error": {"category": "sad"}},
    {"type": "native_session", "id": "x"},
    {},
]


def accepted(event: dict[str, Any]) -> bool:
    try:
        Batch.model_validate_json(json.dumps({"events": [{"id": "1", **event}]}))
    except ValidationError:
        return False
    return True


def valid(event: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid({"events": [{"id": "1", **event}]})


@pytest.mark.parametrize("event", GOOD)
def test_what_the_schema_allows_is_taken(event: dict[str, Any]) -> None:
    assert valid(event)
    assert accepted(event)


@pytest.mark.parametrize("event", BAD, ids=lambda event: str(event)[:60])
def test_what_the_schema_forbids_is_refused(event: dict[str, Any]) -> None:
    assert not valid(event)
    assert not accepted(event)


@pytest.mark.parametrize("id", ["", "a b", "ä", "a" * 129, 1, None])
def test_an_id_is_short_and_plain(id: object) -> None:
    assert not accepted({"id": id, "type": "chunk", "text": "a"})
    assert not valid({"id": id, "type": "chunk", "text": "a"})


def test_the_documents_are_made_from_the_code() -> None:
    assert document() == DOCUMENT, "run: python -m gateway.runtime_api.openapi > specs/runtime-api.openapi.json"
    assert events() == SCHEMA, "run: python -m gateway.runtime_api.openapi events > specs/runtime-contract.schema.json"


def test_every_type_and_path_is_told_of_in_the_contract() -> None:
    types = {of["properties"]["type"]["const"] for of in SCHEMA["$defs"].values() if "type" in of["properties"]}
    assert types == set(re.findall(r"^\| `(\w+)` \| (?:`|\()", CONTRACT, re.MULTILINE)) & types
    for path in DOCUMENT["paths"]:
        assert f"{path}" in CONTRACT
        assert path.startswith(PREFIX)
