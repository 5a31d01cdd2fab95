"""A stream's bytes as a client holds them that was cut off, and the same stream again from its last id on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support import Client, Json

ID = "ä-1"  # of every JSON-RPC request, so that a resumed stream's bytes are those of the first one


@dataclass(frozen=True, slots=True)
class Leg:
    transport: str
    version: str

    def __str__(self) -> str:
        return f"{self.transport}-{self.version}"

    def send(self, prompt: str) -> tuple[str, Json]:
        """(path below the agent, body) of a message that is streamed."""
        if self.version == "1.0":
            params: Json = {"message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": prompt}]}}
        elif self.transport == "jsonrpc":
            part = {"kind": "text", "text": prompt}
            params = {"message": {"kind": "message", "messageId": "m", "role": "user", "parts": [part]}}
        else:
            params = {"message": {"messageId": "m", "role": "ROLE_USER", "content": [{"text": prompt}]}}
        return self._call("SendStreamingMessage", "message/stream", "message:stream", params)

    def resume(self, task_id: str) -> tuple[str, Json]:
        return self._call("SubscribeToTask", "tasks/resubscribe", f"tasks/{task_id}:subscribe", {"id": task_id})

    def _call(self, new: str, old: str, path: str, params: Json) -> tuple[str, Json]:
        if self.transport == "jsonrpc":
            return "", {"jsonrpc": "2.0", "id": ID, "method": new if self.version == "1.0" else old, "params": params}
        return f"/{'v1/' if self.version == '0.3' else ''}{path}", params


LEGS = [Leg(transport, version) for transport in ("jsonrpc", "rest") for version in ("1.0", "0.3")]


@dataclass
class Cutting:
    """One caller of one leg, and the bytes it has whole: up to the end of the last frame that has an id."""

    client: Client
    leg: Leg
    agent: str = "hello"
    held: bytes = b""
    task_id: str = ""

    async def first(self, prompt: str, limit: int | None = None) -> None:
        """The stream of a new message; the connection is cut after `limit` bytes."""
        await self._read(*self.leg.send(prompt), {}, limit)

    async def more(self, limit: int | None = None) -> None:
        """What comes after the last id, if any is held, or else after the start; cut after `limit` bytes."""
        await self._read(*self.leg.resume(self.task_id), {"Last-Event-ID": last_id(self.held) or "0"}, limit)

    async def after(self, id: str) -> bytes:
        """The rest of the stream after an id, read to its end."""
        other = Cutting(self.client, self.leg, self.agent, task_id=self.task_id)
        await other._read(*self.leg.resume(self.task_id), {"Last-Event-ID": id}, None)
        return other.held

    async def _read(self, path: str, body: Json, headers: dict[str, str], limit: int | None) -> None:
        got = b""
        try:
            async with aclosing(self._bytes(path, body, headers)) as pieces:
                async for piece in pieces:
                    got += piece
                    if limit is not None and len(got) >= limit:
                        got = got[:limit]
                        break
        except httpx2.TransportError:
            pass  # the gateway was killed
        self.held += got[: whole(got)]
        if self.held and not self.task_id:
            self.task_id = task_of(self.held)

    async def _bytes(self, path: str, body: Json, headers: dict[str, str]) -> AsyncGenerator[bytes]:
        url = f"{self.client.url}/agents/{self.agent}{path}"
        sent = {"A2A-Version": self.leg.version, **headers}
        async with self.client.http.stream("POST", url, json=body, headers=sent) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for piece in answer.aiter_raw():
                yield piece


def frames(data: bytes) -> list[bytes]:
    """The frames that are complete: an empty line has come."""
    return [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]


def whole(data: bytes) -> int:
    """Where the last complete frame that has an id ends: who is cut off later gets what follows once more."""
    length = end = 0
    for frame in frames(data):
        length += len(frame)
        end = length if frame.startswith(b"id: ") else end
    return end


def last_id(data: bytes) -> str:
    ids = [frame[4 : frame.index(b"\n")] for frame in frames(data) if frame.startswith(b"id: ")]
    return ids[-1].decode() if ids else ""


def told(data: bytes) -> list[tuple[str, Any]]:
    """Every frame as (id or "", JSON). In the JSON the order of a map's keys may differ between processes."""
    found = []
    for frame in frames(data):
        head, _, body = frame.partition(b"data: ")
        found.append((head.removeprefix(b"id: ").strip().decode(), json.loads(body)))
    return found


def results(data: bytes) -> list[Any]:
    """The JSON of every frame, without JSON-RPC's envelope."""
    return [one.get("result", one) for _, one in told(data)]


def task_of(data: bytes) -> str:
    first = results(data)[0]
    task: Json = first.get("task", first)
    return str(task["id"])
