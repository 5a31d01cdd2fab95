"""The session API, as plainly as it can be spoken.

async with serving(tmp_path) as gateway:
    api = Api(gateway)
    session = await api.create("N=3")
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2

from tests.support import Client, Json, framed

PATH = "/v1/sessions"
WAIT = 20  # seconds, for what takes milliseconds


@dataclass
class Api:
    gateway: Client
    headers: dict[str, str] | None = None

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        headers = {**(self.headers or {}), **more.pop("headers", {})}
        return await self.gateway.http.request(method, f"{self.gateway.url}{PATH}{path}", json=body, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Json:
        return told(await self.ask("GET", path, params=params))

    async def post(self, path: str, body: Any = None, **more: Any) -> Json:
        return told(await self.ask("POST", path, body, **more))

    async def create(self, input: Any, agent: str = "hello", **more: Any) -> Json:
        return await self.post("", {"agent": agent, "input": input, **more})

    async def finished(self, input: Any, **more: Any) -> Json:
        """A session whose first turn has ended."""
        session = await self.create(input, **more)
        await self.rest(session["id"])
        return session

    async def rest(self, id: str) -> Json:
        """The result of a session's last turn, once it rests."""
        with anyio.fail_after(WAIT):
            while True:
                result = await self.get(f"/{id}/result", wait=5)
                if result["status"] not in ("queued", "running"):
                    return result

    async def log(self, id: str, **params: Any) -> list[Json]:
        answer = await self.ask("GET", f"/{id}/log", params=params)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    async def sse(self, id: str, headers: dict[str, str] | None = None, **params: Any) -> AsyncIterator[tuple[int, Json]]:
        """(id, event) of a stream of Server-Sent Events."""
        asked = {"Accept": "text/event-stream", **(self.headers or {}), **(headers or {})}
        url = f"{self.gateway.url}{PATH}/{id}/events"
        async with self.gateway.http.stream("GET", url, params=params, headers=asked) as answer:
            assert answer.status_code == 200, answer.status_code
            async for frame in framed(answer):
                yield int(frame.id), frame.data


def told(answer: httpx2.Response) -> Json:
    assert answer.is_success, answer.text
    found: Json = answer.json()
    return found


def problem(answer: httpx2.Response) -> tuple[int, str]:
    """(status, code) of an error; it has the one shape."""
    body = answer.json()
    assert set(body) == {"code", "message", "hint"}
    assert body["message"]
    assert body["hint"]
    return answer.status_code, body["code"]
