"""The conformance kit's model: says what a scene's script says, in whatever API it is asked by.

    POST .../chat/completions   .../responses   .../messages   .../models/NAME:generateContent   ...:streamGenerateContent

The scene is known by its marker, `scene:NAME`, in what the user said last; how far it is, by the answers the model has
given since. So it says the same to whoever asks the same again, and needs to remember nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.conformance.voices import Heard, Json, Piece, Refused, Reply, Said, Tool, Voice
from gateway.conformance.voices.chat import Chat
from gateway.conformance.voices.gemini import Gemini
from gateway.conformance.voices.messages import Messages
from gateway.conformance.voices.responses import Responses

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
    voices: Sequence[Voice] = field(default_factory=lambda: (Chat(), Responses(), Messages(), Gemini()))

    def app(self) -> Starlette:
        routes = [Route(f"/{{base:path}}{voice.path}", self._speaks(voice), methods=["POST"]) for voice in self.voices]
        return Starlette(routes=routes)

    def requests(self, scene: str) -> list[Asked]:
        return [one for one in self.asked if one.scene == scene]

    def _speaks(self, voice: Voice) -> Callable[[Request], Awaitable[Response]]:
        async def speak(request: Request) -> Response:
            try:
                heard = voice.hear(json.loads(await request.body()), request.path_params.get("name", ""), request.query_params)
            except Refused as exc:
                return JSONResponse(exc.body, exc.status)
            step, reply = self._reply(heard)
            if heard.come == "whole":
                await anyio.sleep(step.silence)
                return JSONResponse(voice.whole(heard, reply))
            framed, media_type = _FRAMES[heard.come]
            return StreamingResponse(framed(_paced(step.silence, voice.pieces(heard, reply))), media_type=media_type)

        return speak

    def _reply(self, heard: Heard) -> tuple[Step, Reply]:
        """What is to be said now."""
        scene, number = place_of(heard.said)
        self.asked.append(Asked(scene, number, "\n".join(one.text for one in heard.said), [tool.name for tool in heard.tools]))
        steps = self.scripts.get(scene, ())
        step = steps[number] if number < len(steps) else Step(("That is all.",))
        made = call_of(*step.call, heard.tools) if step.call else None
        text = (*step.text, NO_TOOL) if step.call and not made else step.text
        return step, Reply(text, made, step.pause)


def place_of(said: Sequence[Said]) -> tuple[str, int]:
    """(the scene, how many answers the model has given in it)."""
    scene, number = "", 0
    for one in said:
        if one.who == "user" and (found := _MARKER.findall(one.text)):
            scene, number = found[-1], 0
        elif one.who == "model":
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
    return values.get(str(schema.get("type", "string")).lower(), "kit")  # Gemini writes types in capitals


# -- how an answer comes


async def _paced(silence: float, pieces: Iterator[Piece]) -> AsyncIterator[Json | str]:
    await anyio.sleep(silence)
    for piece in pieces:
        if isinstance(piece, float):
            await anyio.sleep(piece)
        else:
            yield piece


async def _events(pieces: AsyncIterator[Json | str]) -> AsyncIterator[str]:
    async for piece in pieces:
        name = f"event: {piece['type']}\n" if isinstance(piece, dict) and "type" in piece else ""
        yield f"{name}data: {piece if isinstance(piece, str) else json.dumps(piece)}\n\n"


async def _array(pieces: AsyncIterator[Json | str]) -> AsyncIterator[str]:
    before = "["
    async for piece in pieces:
        yield f"{before}{json.dumps(piece)}"
        before = ",\n"
    yield "]"


_FRAMES = {"events": (_events, "text/event-stream"), "array": (_array, "application/json")}
