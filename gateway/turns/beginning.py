"""Gets the process of an attempt: its image fetched, its workspace prepared, and it started where its agent is placed.

A container engine that does not answer, such as one that is restarted, is waited for; unless that of another worker
answers, which then goes on with the turn.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio

from adapters import events as ev
from adapters.events import Event
from adapters.launch.reaching import EngineGone
from adapters.profile import Launch, Profile
from gateway.egress.gate import Gate
from gateway.errors import Fenced
from gateway.runtime_api.brain import Work, deadline_in
from gateway.settings import Settings
from gateway.turns.launching import Place, model_of
from gateway.turns.leases import Claimed
from gateway.turns.spec import AgentSpec
from gateway.turns.starter import Started, Starter

ENGINE_PAUSE = 0.5  # seconds
T = TypeVar("T")


@dataclass(slots=True)
class Beginning:
    """Of one attempt. `may_start`: the turn is surely still this worker's; `may_move`: it may have another attempt."""

    turn: Claimed
    spec: AgentSpec
    profile: Profile
    place: Place
    starter: Starter
    settings: Settings
    tell: Callable[[Sequence[Event]], None]
    may_start: Callable[[], bool]
    may_move: Callable[[], bool]
    asked_to_stop: anyio.Event
    gate: Gate | None = None  # where the agent's way out is watched
    moves: bool = False  # to another worker, since no engine answers here

    async def prepare(self, launch: Launch, hooks: Callable[[], Awaitable[None]] | None) -> None:
        """What comes before the start. Raises LaunchError, OSError, SetupFailed."""
        if launch.image:
            await self._patiently(lambda: self.starter.fetch(launch.image, self._awaits))
        if hooks is not None:
            await self._patiently(hooks)

    async def start(self, launch: Launch, seconds: float) -> Started:
        """`seconds` are left to the turn. Raises LaunchError, OSError, and Fenced for a turn that may be another's."""
        return await self._patiently(lambda: self._start(launch, seconds))

    async def spawn(self, part: str, launch: Launch) -> Started:
        """A process beside the runtime (`part`), or the runtime itself (""). Raises LaunchError, OSError."""
        socket = self.gate.socket if self.gate else None
        return await self.starter.spawn(launch, self.place, self.spec, self.turn.id, socket, part)

    async def _start(self, launch: Launch, seconds: float) -> Started:
        if not self.may_start():
            raise Fenced(f"Turn {self.turn.id} may be another worker's by now.")
        if not launch.image:
            return await self.spawn("", launch)
        provider = model_of(self.spec, self.profile)[0]
        work = Work(self.turn, self.spec, self.place, deadline_in(seconds), provider=provider)
        return await self.starter.think(launch, work, self.profile, self.gate.socket if self.gate else None)

    async def _patiently(self, start: Callable[[], Awaitable[T]]) -> T:
        give_up, left, told = time.monotonic() + self.settings.engine_seconds, self.turn.attempt > 1, False
        while True:
            try:
                if left and self.spec.needs_engine:
                    await self.starter.clear(self.turn.id)
                return await start()
            except EngineGone as exc:
                if not told:
                    self.tell([ev.notice("engine_awaited", str(exc))])
                left = told = True
                self.moves = self.may_move() and await self.starter.engines.where() == "elsewhere"
                if self.moves or time.monotonic() > give_up or self.asked_to_stop.is_set():
                    raise
            with anyio.move_on_after(ENGINE_PAUSE):
                await self.asked_to_stop.wait()

    def _awaits(self, image: str) -> None:
        self.tell([ev.notice("image_awaited", f"The container engine gets {image} from its registry.")])
