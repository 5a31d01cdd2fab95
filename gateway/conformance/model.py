"""The conformance kit's model: says what a scene's script says, by OpenAI's chat completions and Anthropic's messages.

    POST .../chat/completions      POST .../messages

The scene is known by its marker, `scene:NAME`, in what the user said last; how far it is, by the answers the model has
given since. So it says the same to whoever asks the same again, and needs to remember nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]

# What a scene asks for -> by which of an image's tools it can be had: words of its name, and of the input that takes the text.
_TOOLS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "shell": (("bash", "shell", "exec", "command", "terminal"), ("command", "cmd", "script")),
    "ask": (("ask",), ("question", "text", "message", "prompt")),
    "artifact": (("artifact",), ("text", "content", "body")),
}
_MARKER = re.compile(r"scene:([a-z-]+)")
NO_TOOL = "There is no tool for this."


@dataclass(frozen=True, slots=True)
class Step:
    """One answer: text in pieces with a pause after each, then perhaps a call. `silence`: seconds before it begins."""

    text: Sequence[str] = ()
    call: tuple[str, str] | None = None  # what for, and the text it is given
    pause: float = 0.0
    silence: float = 0.0


@dataclass(frozen=True, slots=True)
class Tool:
    """One the image offers its model."""

    name: str
    schema: Json


@dataclass
class Asked:
    """A request as the kit remembers it."""

    scene: str
    step: int
    said: str  # all of the conversation, as JSON
    tools: list[str]


@dataclass
class Model:
    scripts: Mapping[str, Sequence[Step]]
    asked: list[Asked] = field(default_factory=list)

    def app(self) -> Starlette:
        paths = {"chat/completions": self._openai, "messages": self._anthropic}
        routes = [Route(f"/{{base:path}}{path}", made, methods=["POST"]) for path, made in paths.items()]
        return Starlette(routes=routes)

    def requests(self, scene: str) -> list[Asked]:
        return [one for one in self.asked if one.scene == scene]

    async def _openai(self, request: Request) -> Response:
        body = json.loads(await request.body())
        tools = [Tool(one["function"]["name"], one["function"].get("parameters") or {}) for one in body.get("tools") or ()]
        step, made = self._step(body["messages"], tools)
        if not body.get("stream"):
            return JSONResponse(_completion(step, made))
        return _streamed(_chunks(step, made))

    async def _anthropic(self, request: Request) -> Response:
        body = json.loads(await request.body())
        tools = [Tool(one["name"], one.get("input_schema") or {}) for one in body.get("tools") or ()]
        step, made = self._step(body["messages"], tools)
        if not body.get("stream"):
            return JSONResponse(_message(step, made))
        return _streamed(_blocks(step, made))

    def _step(self, messages: Sequence[Json], tools: Sequence[Tool]) -> tuple[Step, Json | None]:
        """What is to be said now, and the call as {name, input}."""
        scene, number = place_of(messages)
        self.asked.append(Asked(scene, number, json.dumps(messages, ensure_ascii=False), [tool.name for tool in tools]))
        steps = self.scripts.get(scene, ())
        step = steps[number] if number < len(steps) else Step(("That is all.",))
        if step.call is None:
            return step, None
        made = call_of(*step.call, tools)
        return (step, made) if made else (Step((*step.text, NO_TOOL)), None)


def place_of(messages: Sequence[Json]) -> tuple[str, int]:
    """(the scene, how many answers the model has given in it)."""
    scene, number = "", 0
    for message in messages:
        if message["role"] == "user" and (found := _MARKER.findall(json.dumps(message))):
            scene, number = found[-1], 0
        elif message["role"] == "assistant":
            number += 1
    return scene, number


def call_of(purpose: str, text: str, tools: Sequence[Tool]) -> Json | None:
    """How to have something done by the tools there are; None if there is none for it."""
    names, inputs = _TOOLS[purpose]
    for word in names:
        for tool in tools:
            properties: Json = tool.schema.get("properties") or {}
            takes = next((name for name in inputs if name in properties), None)
            if word in re.split(r"[^a-z]+", tool.name.lower()) and takes:
                needed = {name: _filled(properties[name]) for name in tool.schema.get("required") or () if name != takes}
                return {"name": tool.name, "input": {**needed, takes: text}}
    return None


def _filled(schema: Json) -> Any:
    """Some value of a type."""
    if schema.get("enum"):
        return schema["enum"][0]
    values: Json = {"integer": 1, "number": 1, "boolean": False, "array": [], "object": {}}
    return values.get(schema.get("type", "string"), "kit")


# -- in OpenAI's words


def _completion(step: Step, call: Json | None) -> Json:
    message: Json = {"role": "assistant", "content": "".join(step.text)}
    if call:
        message["tool_calls"] = [_called(call)]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
    return {"id": "kit", "object": "chat.completion", "created": 0, "model": "kit", "choices": [choice], "usage": _USED}


_USED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def _called(call: Json) -> Json:
    function = {"name": call["name"], "arguments": json.dumps(call["input"])}
    return {"index": 0, "id": "call_kit", "type": "function", "function": function}


async def _chunks(step: Step, call: Json | None) -> AsyncIterator[Json | str]:
    await anyio.sleep(step.silence)
    for text in step.text:
        yield _chunk({"role": "assistant", "content": text})
        await anyio.sleep(step.pause)
    if call:
        yield _chunk({"role": "assistant", "tool_calls": [_called(call)]})
    yield _chunk({}, "tool_calls" if call else "stop")
    yield {**_chunk({}), "choices": [], "usage": _USED}
    yield "[DONE]"


def _chunk(delta: Json, finish: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "kit", "object": "chat.completion.chunk", "created": 0, "model": "kit", "choices": [choice]}


# -- in Anthropic's words


def _message(step: Step, call: Json | None) -> Json:
    blocks = [_text_block(text) for text in ["".join(step.text)] if text]
    if call:
        blocks.append({"type": "tool_use", "id": "toolu_kit", **call})
    return {**_opened(), "content": blocks, "stop_reason": "tool_use" if call else "end_turn"}


def _text_block(text: str) -> Json:
    return {"type": "text", "text": text}


def _opened() -> Json:
    used = {"input_tokens": 10, "output_tokens": 5}
    about = {"id": "msg_kit", "type": "message", "role": "assistant", "model": "kit"}
    return {**about, "content": [], "stop_reason": None, "stop_sequence": None, "usage": used}


async def _blocks(step: Step, call: Json | None) -> AsyncIterator[Json]:
    await anyio.sleep(step.silence)
    yield {"type": "message_start", "message": _opened()}
    index = 0
    if step.text:
        yield {"type": "content_block_start", "index": 0, "content_block": _text_block("")}
        for text in step.text:
            yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            await anyio.sleep(step.pause)
        yield {"type": "content_block_stop", "index": 0}
        index = 1
    if call:
        for event in _use(index, call):
            yield event
    reason = "tool_use" if call else "end_turn"
    yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def _use(index: int, call: Json) -> Iterator[Json]:
    block = {"type": "tool_use", "id": "toolu_kit", "name": call["name"], "input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": block}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(call["input"])}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _streamed(events: AsyncIterator[Json | str] | AsyncIterator[Json]) -> Response:
    async def lines() -> AsyncIterator[str]:
        async for event in events:
            name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
            yield f"{name}data: {event if isinstance(event, str) else json.dumps(event)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
