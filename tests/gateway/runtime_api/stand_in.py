"""An image played by a coroutine of the test: everything is real but the container.

async with thinking(tmp_path, monkeypatch, play) as gateway:
    task = await gateway.send("thinker", "Hello")
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from signal import SIGKILL
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx2
import pytest

from adapters.launch.lines import Line
from adapters.launch.process import Exited
from adapters.profile import Launch, Profile
from gateway.runtime_api.brain import Brain, Work
from gateway.runtime_api.container import box_of, parted
from gateway.turns.starter import Starter
from registry.images import Image, push
from tests.support import Client, serving

Json = dict[str, Any]


@dataclass
class Played:
    """What an image has: its environment, and the API."""

    env: Mapping[str, str]
    http: httpx2.AsyncClient
    digest: str

    async def get(self, path: str, **query: Any) -> Json:
        answer = await self.http.get(f"/runtime/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    async def try_post(self, *events: Json) -> httpx2.Response:
        return await self.http.post("/runtime/v1/events", json={"events": list(events)})

    async def post(self, *events: Json) -> Json:
        answer = await self.try_post(*events)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


def chunk(id: str, text: str) -> Json:
    return {"id": id, "type": "chunk", "text": text}


Play = Callable[[Played], Awaitable[int]]  # answers the exit code


@dataclass
class Body:
    """In place of a container."""

    printed: list[str] = field(default_factory=list)
    code: int | None = None
    over: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def run(self, play: Play, played: Played) -> None:
        try:
            with self.scope:
                self.code = await play(played)
        finally:
            self.over.set()
            with anyio.CancelScope(shield=True):
                await played.http.aclose()

    async def lines(self) -> list[Line]:
        await self.over.wait()
        printed, self.printed = self.printed, []
        return [Line(text.encode()) for text in printed]

    async def wait(self) -> Exited:
        await self.over.wait()
        return Exited(self.code, SIGKILL if self.code is None else None)

    async def stop(self, *, grace: float = math.inf) -> Exited:
        with anyio.move_on_after(grace):
            await self.over.wait()
        self.scope.cancel()
        return await self.wait()

    async def aclose(self) -> None:
        self.scope.cancel()

    def stderr_tail(self) -> str:
        return "" if self.code == 0 else "Traceback ..."


@asynccontextmanager
async def thinking(
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    play: Play,
    *,
    capabilities: tuple[str, ...] = ("steer", "mcp"),
    **more: Any,
) -> AsyncIterator[Client]:
    """A gateway with an agent `thinker`, whose runtime is an image that does as `play` does, attempt by attempt."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="api")))
        group = await stack.enter_async_context(anyio.create_task_group())

        async def think(self: Starter, launch: Launch, work: Work, profile: Profile, egress: Path | None) -> Brain:
            public, told = parted(launch.env, work.spec.env, profile)

            async def start(brain: Brain, token: str) -> Body:
                env = box_of(brain, token, launch.image, public, {}, "1:1").env
                link = folder / token_hex(4)  # the path a client gives of a socket has at most 107 bytes
                link.symlink_to(self._api.socket)
                transport = httpx2.AsyncHTTPTransport(uds=str(link))
                headers = {"Authorization": f"Bearer {token}"}
                http = httpx2.AsyncClient(transport=transport, base_url="http://api", headers=headers, timeout=30)
                body = Body()
                group.start_soon(body.run, play, Played(env, http, launch.image))
                return body

            return await self._api.begin(replace(work, variables=told), start)

        async def has(self: Starter, image: str, awaits: Callable[[str], None]) -> None:
            """As if the engine had the image."""

        monkeypatch.setattr(Starter, "think", think)
        monkeypatch.setattr(Starter, "fetch", has)
        settings = {"stop_seconds": 0.5, **more}
        async with serving(data_dir, **settings) as client:
            image = Image("mine:1", "sha256:1", ("openai",), ("steer", "mcp"), ("GITHUB_TOKEN",))
            await client.database.write(lambda conn: push(conn, "mine", image, 1))
            await client.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            yield client
        group.cancel_scope.cancel()
