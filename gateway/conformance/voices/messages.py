"""Anthropic's messages: POST .../messages"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from gateway.conformance.voices import USED_IN, USED_OUT, Heard, Json, Piece, Reply, Said, Tool, spoken

_CALL_ID = "toolu_kit"


class Messages:
    path = "messages"

    def hear(self, body: Json, name: str, query: Mapping[str, str]) -> Heard:
        tools = [Tool(one["name"], one.get("input_schema") or {}) for one in body.get("tools") or ()]
        said = [
            Said("model" if one["role"] == "assistant" else "user", json.dumps(one, ensure_ascii=False))
            for one in body["messages"]
        ]
        return Heard(said, tools, "events" if body.get("stream") else "whole")

    def whole(self, heard: Heard, reply: Reply) -> Json:
        blocks: list[Json] = [{"type": "text", "text": text} for text in [reply.whole] if text]
        if reply.call:
            blocks.append({"type": "tool_use", "id": _CALL_ID, **reply.call})
        return {**_opened(), "content": blocks, "stop_reason": _reason(reply)}

    def pieces(self, heard: Heard, reply: Reply) -> Iterator[Piece]:
        yield {"type": "message_start", "message": _opened()}
        index = 0
        if reply.text:
            yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
            for text in spoken(reply):
                delta = {"type": "text_delta", "text": text}
                yield text if isinstance(text, float) else {"type": "content_block_delta", "index": 0, "delta": delta}
            yield {"type": "content_block_stop", "index": 0}
            index = 1
        if reply.call:
            yield from _use(index, reply.call)
        stop = {"stop_reason": _reason(reply), "stop_sequence": None}
        yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": USED_OUT}}
        yield {"type": "message_stop"}


def _opened() -> Json:
    used = {"input_tokens": USED_IN, "output_tokens": USED_OUT}
    about = {"id": "msg_kit", "type": "message", "role": "assistant", "model": "kit"}
    return {**about, "content": [], "stop_reason": None, "stop_sequence": None, "usage": used}


def _reason(reply: Reply) -> str:
    return "tool_use" if reply.call else "end_turn"


def _use(index: int, call: Json) -> Iterator[Json]:
    block = {"type": "tool_use", "id": _CALL_ID, "name": call["name"], "input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": block}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(call["input"])}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
