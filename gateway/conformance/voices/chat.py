"""OpenAI's chat completions: POST .../chat/completions"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from gateway.conformance.voices import CALL_ID, USED_IN, USED_OUT, Heard, Json, Piece, Reply, Said, Tool, spoken

_USED = {"prompt_tokens": USED_IN, "completion_tokens": USED_OUT, "total_tokens": USED_IN + USED_OUT}
_WHO: Mapping[str, Literal["user", "model"]] = {"user": "user", "assistant": "model"}


class Chat:
    path = "chat/completions"

    def hear(self, body: Json, name: str, query: Mapping[str, str]) -> Heard:
        tools = [Tool(one["function"]["name"], one["function"].get("parameters") or {}) for one in body.get("tools") or ()]
        said = [Said(_WHO.get(one["role"], "other"), json.dumps(one, ensure_ascii=False)) for one in body["messages"]]
        return Heard(said, tools, "events" if body.get("stream") else "whole")

    def whole(self, heard: Heard, reply: Reply) -> Json:
        message: Json = {"role": "assistant", "content": reply.whole}
        if reply.call:
            message["tool_calls"] = [_called(reply.call)]
        choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
        return {**_about("chat.completion"), "choices": [choice], "usage": _USED}

    def pieces(self, heard: Heard, reply: Reply) -> Iterator[Piece]:
        for text in spoken(reply):
            yield text if isinstance(text, float) else _chunk({"role": "assistant", "content": text})
        if reply.call:
            yield _chunk({"role": "assistant", "tool_calls": [_called(reply.call)]})
        yield _chunk({}, _finish(reply))
        yield {**_chunk({}), "choices": [], "usage": _USED}
        yield "[DONE]"


def _about(object: str) -> Json:
    return {"id": "kit", "object": object, "created": 0, "model": "kit"}


def _finish(reply: Reply) -> str:
    return "tool_calls" if reply.call else "stop"


def _called(call: Json) -> Json:
    function = {"name": call["name"], "arguments": json.dumps(call["input"])}
    return {"index": 0, "id": CALL_ID, "type": "function", "function": function}


def _chunk(delta: Any, finish: str | None = None) -> Json:
    return {**_about("chat.completion.chunk"), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
