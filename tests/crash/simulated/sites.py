"""One simulated process, and what stands in it for what no schedule is about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio
import anyio.abc

from gateway.turns.engine import Engine
from gateway.turns.journals import Taken
from tests.crash.simulated.database import Backend
from tests.crash.simulated.loop import Host
from tests.crash.simulated.remote import Backend as RemoteBackend
from tests.crash.simulated.runtime import Starting


@dataclass(eq=False)
class Site:
    """One gateway or worker process."""

    host: Host
    backend: Backend | RemoteBackend
    engine: Engine
    starting: Starting | None = None
    root: asyncio.Task[Any] | None = None
    scope: anyio.CancelScope | None = None
    leaving: bool = False  # was asked to stop

    async def run(self) -> None:
        with anyio.CancelScope() as self.scope:
            await self.engine.worker.run()

    def stop(self) -> None:
        if self.scope is not None:
            self.scope.cancel()


class NoHands:
    """Nobody asks for a container."""

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def end(self, turn_id: str) -> None: ...


@dataclass
class Journals:
    """Journals that are where they should be, most of the time."""

    random: Random

    def take(self, session_id: str, known: str | None, name: str) -> Taken:
        if self.random.random() < 0.005:
            raise OSError("The journal cannot be read.")
        return Taken("here" if self.random.random() < 0.97 else "lost")

    def keep(self, session_id: str, name: str, native: Mapping[str, Any]) -> None: ...
