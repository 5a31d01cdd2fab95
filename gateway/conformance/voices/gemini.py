"""Gemini's generateContent and streamGenerateContent: POST .../models/NAME:generateContent

A stream comes as Server-Sent Events with `alt=sse`, else as one JSON array, item by item.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.conformance.voices import CALL_ID, USED_IN, USED_OUT, Heard, Json, Piece, Refused, Reply, Said, Tool, spoken

_USED = {"promptTokenCount": USED_IN, "candidatesTokenCount": USED_OUT, "totalTokenCount": USED_IN + USED_OUT}


class Gemini:
    path = "models/{name}"

    def hear(self, body: Json, name: str, query: Mapping[str, str]) -> Heard:
        verb = name.rpartition(":")[2]
        if verb not in ("generateContent", "streamGenerateContent"):
            said = f"There is no method {verb!r} here."
            raise Refused(404, {"error": {"code": 404, "message": said, "status": "NOT_FOUND"}})
        streamed = "events" if query.get("alt") == "sse" else "array"
        come: Any = streamed if verb == "streamGenerateContent" else "whole"
        declared = [one for tool in body.get("tools") or () for one in _either(tool, "functionDeclarations", [])]
        tools = [Tool(one["name"], one.get("parametersJsonSchema") or one.get("parameters") or {}) for one in declared]
        return Heard([_said(one) for one in body["contents"]], tools, come)

    def whole(self, heard: Heard, reply: Reply) -> Json:
        parts: list[Json] = [{"text": text} for text in [reply.whole] if text]
        return _answer([*parts, *_call(reply)], "STOP")

    def pieces(self, heard: Heard, reply: Reply) -> Iterator[Piece]:
        for text in spoken(reply):
            yield text if isinstance(text, float) else _answer([{"text": text}])
        yield _answer(_call(reply) or [{"text": ""}], "STOP")


def _either(found: Json, name: str, default: Any) -> Any:
    """Both spellings of protobuf's JSON are taken."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return found.get(name) or found.get(snake) or default


def _said(content: Json) -> Said:
    text = json.dumps(content, ensure_ascii=False)
    if content.get("role") == "model":
        return Said("model", text)
    answers = any(_either(part, "functionResponse", None) for part in content.get("parts") or ())
    return Said("other" if answers else "user", text)


def _call(reply: Reply) -> list[Json]:
    if not reply.call:
        return []
    return [{"functionCall": {"id": CALL_ID, "name": reply.call["name"], "args": reply.call["input"]}}]


def _answer(parts: list[Json], finish: str | None = None) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0, **({"finishReason": finish} if finish else {})}
    return {"candidates": [candidate], "usageMetadata": _USED, "modelVersion": "kit", "responseId": "kit"}
