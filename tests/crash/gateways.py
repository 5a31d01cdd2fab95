"""Several gateways on one database that die and come back, and how to ask one that is up."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import httpx2
import psutil

from tests.crash.witness import AGENT
from tests.support import Born, Client, GatewayProcess, python

T = TypeVar("T")
WORK = 5.0  # seconds
PATIENCE = 300.0  # seconds, for anything that was accepted to come to its end on a machine that does much else


class Away(httpx2.TransportError):
    """Nothing was acknowledged: 503, with the time to come back after."""


async def _told_to_come_back(answer: httpx2.Response) -> None:
    if answer.status_code == 503:
        assert answer.headers.get("Retry-After", "").isdigit(), "503 without Retry-After"
        raise Away("503")


@dataclass
class Gateways:
    """`all` share a database and a data directory."""

    all: list[GatewayProcess]
    rng: random.Random
    clients: dict[int, Client] = field(default_factory=dict)  # by port, of those that are up
    _changed: anyio.Event = field(default_factory=anyio.Event)
    _heard: anyio.Event = field(default_factory=anyio.Event)
    _key: str = ""

    async def start(self, gateway: GatewayProcess) -> None:
        await anyio.to_thread.run_sync(gateway.start)
        client = gateway.client()
        client.http.event_hooks["response"].append(_told_to_come_back)
        client.http.headers["X-API-Key"] = self._key
        self.clients[gateway.port] = client
        self._changed.set()
        self._changed = anyio.Event()

    async def kill(self, gateway: GatewayProcess, how: signal.Signals = signal.SIGKILL) -> None:
        """At this very moment; what waits for its answers learns it from its connection."""
        client = self.clients.pop(gateway.port, None)
        if gateway.process is not None:
            gateway.process.send_signal(how)
            await anyio.to_thread.run_sync(gateway.process.wait, 60)
            gateway.process = None
        if client is not None:
            await client.http.aclose()

    async def introduce(self) -> None:
        """An agent, and one caller."""
        client = next(iter(self.clients.values()))
        await client.owner("agent.create", name=AGENT, runtime="rehearsal")
        self._key = await client.sign_in()
        for each in self.clients.values():
            each.http.headers["X-API-Key"] = self._key

    def hear(self) -> None:
        """Somebody was told something."""
        self._heard.set()
        self._heard = anyio.Event()

    async def work(self, pieces: int) -> None:
        """Wait until so many pieces were told, or for a while: so that who is killed next has done something."""
        with anyio.move_on_after(WORK):
            for _ in range(pieces):
                await self._heard.wait()

    async def one(self) -> Client:
        """Any that is up."""
        while not self.clients:
            await self._changed.wait()
        return self.rng.choice(list(self.clients.values()))

    async def ask(self, do: Callable[[Client], Awaitable[T]]) -> T:
        """Have it done by one of them; by another, or later, if that one cannot."""
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    return await do(await self.one())
                except (httpx2.TransportError, RuntimeError):  # the second: its client was just closed
                    await anyio.sleep(0.02)
        raise AssertionError


@asynccontextmanager
async def gateways(
    folder: Path, rng: random.Random, count: int = 1, env: Mapping[str, str] | None = None, born: Born = python
) -> AsyncIterator[Gateways]:
    """They are up, and know an agent and a caller."""
    all = Gateways([GatewayProcess(folder, env or {}, born=born) for _ in range(count)], rng)
    try:
        for gateway in all.all:
            await all.start(gateway)
        await all.introduce()
        yield all
    finally:
        with anyio.CancelScope(shield=True):
            for gateway in all.all:
                await all.kill(gateway)


def below(gateway: GatewayProcess) -> list[psutil.Process]:
    """What a gateway has started: its warden, and all that runs under that."""
    return psutil.Process(gateway.process.pid).children(recursive=True) if gateway.process is not None else []


def left_of(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those of them that live on after so many seconds."""
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return alive


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
