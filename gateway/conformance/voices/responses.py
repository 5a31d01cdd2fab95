"""OpenAI's Responses: POST .../responses

An image may send the whole conversation, or name the response it goes on from (`previous_response_id`): those are remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

from gateway.conformance.voices import CALL_ID, USED_IN, USED_OUT, Heard, Json, Piece, Refused, Reply, Said, Tool, spoken

_MODEL_ITEMS = ("function_call", "reasoning", "custom_tool_call", "local_shell_call")
_USED = {
    "input_tokens": USED_IN,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": USED_OUT,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": USED_IN + USED_OUT,
}


class Responses:
    path = "responses"

    def __init__(self) -> None:
        self._kept: dict[str, list[Json]] = {}  # by response id: the conversation, the response included

    def hear(self, body: Json, name: str, query: Mapping[str, str]) -> Heard:
        given = body.get("input") or []
        new: list[Json] = [{"role": "user", "content": given}] if isinstance(given, str) else given
        items = [*self._before(body.get("previous_response_id")), *new]
        tools = [Tool(one["name"], one.get("parameters") or {}) for one in body.get("tools") or () if one["type"] == "function"]
        return Heard(_said(items), tools, "events" if body.get("stream") else "whole", items)

    def whole(self, heard: Heard, reply: Reply) -> Json:
        output = _output(reply)
        id = _id(heard)
        self._kept[id] = [*heard.items, *output]
        return {**_about(id, "completed"), "output": output, "usage": _USED}

    def pieces(self, heard: Heard, reply: Reply) -> Iterator[Piece]:
        number = 0
        for piece in self._events(heard, reply):
            if isinstance(piece, dict):
                yield {**piece, "sequence_number": number}
                number += 1
            else:
                yield piece

    def _events(self, heard: Heard, reply: Reply) -> Iterator[Piece]:
        begun = {**_about(_id(heard), "in_progress"), "output": [], "usage": None}
        yield {"type": "response.created", "response": begun}
        yield {"type": "response.in_progress", "response": begun}
        for index, item in enumerate(_output(reply)):
            at: Json = {"output_index": index}
            empty: Json = {"content": []} if item["type"] == "message" else {"arguments": ""}
            bare = {**item, "status": "in_progress", **empty}
            yield {"type": "response.output_item.added", **at, "item": bare}
            yield from _of_item({"item_id": item["id"], **at}, item, reply)
            yield {"type": "response.output_item.done", **at, "item": item}
        yield {"type": "response.completed", "response": self.whole(heard, reply)}

    def _before(self, id: str | None) -> Sequence[Json]:
        if not id:
            return ()
        if id not in self._kept:
            about = {"param": "previous_response_id", "code": "previous_response_not_found", "type": "invalid_request_error"}
            raise Refused(400, {"error": {"message": f"Previous response with id '{id}' not found.", **about}})
        return self._kept[id]


def _said(items: Sequence[Json]) -> list[Said]:
    """What the model says between two others' words is one answer, in however many items."""
    found: list[Said] = []
    for item in items:
        text, is_model = json.dumps(item, ensure_ascii=False), _is_model(item)
        if is_model and found and found[-1].who == "model":
            found[-1] = Said("model", found[-1].text + text)
        else:
            found.append(Said("model" if is_model else "user" if item.get("role") == "user" else "other", text))
    return found


def _is_model(item: Json) -> bool:
    return item.get("role") == "assistant" or item.get("type") in _MODEL_ITEMS


def _id(heard: Heard) -> str:
    return f"resp_{hashlib.sha256(json.dumps(heard.items).encode()).hexdigest()[:32]}"


def _about(id: str, status: str) -> Json:
    plain: Json = {
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "previous_response_id": None,
    }
    asked: Json = {"parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0}
    return {"id": id, "object": "response", "created_at": 0, "status": status, "model": "kit", **plain, **asked}


def _output(reply: Reply) -> list[Json]:
    items: list[Json] = []
    if reply.text:
        about = {"id": "msg_kit", "type": "message", "status": "completed", "role": "assistant"}
        items.append({**about, "content": [_part(reply.whole)]})
    if reply.call:
        about = {"id": "fc_kit", "type": "function_call", "status": "completed", "call_id": CALL_ID}
        items.append({**about, "name": reply.call["name"], "arguments": json.dumps(reply.call["input"])})
    return items


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": []}


def _of_item(at: Json, item: Json, reply: Reply) -> Iterator[Piece]:
    if item["type"] == "function_call":
        arguments = item["arguments"]
        yield {"type": "response.function_call_arguments.delta", **at, "delta": arguments}
        yield {"type": "response.function_call_arguments.done", **at, "arguments": arguments, "name": item["name"]}
        return
    at = {**at, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": _part("")}
    for text in spoken(reply):
        delta = {"type": "response.output_text.delta", **at, "delta": text, "logprobs": []}
        yield text if isinstance(text, float) else delta
    yield {"type": "response.output_text.done", **at, "text": reply.whole, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": _part(reply.whole)}
