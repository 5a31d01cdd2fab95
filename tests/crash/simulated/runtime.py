"""A runtime that is simulated: processes that say numbered pieces of text, use tools, crash, hang, or go their own way.

`Starting` stands where a worker has its `Starter`. Processes go on while their worker's host stands still, and die with it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EAGAIN, ECONNREFUSED, EINVAL
from pathlib import Path
from random import Random
from signal import SIGKILL
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.abc
from anyio.lowlevel import checkpoint

from adapters.launch.lines import Line
from adapters.launch.process import Exited, LaunchError
from adapters.launch.reaching import EngineGone
from adapters.profile import Launch
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.spec import AgentSpec
from gateway.turns.warm import Warm
from tests.crash.simulated.loop import Host, SimulatedLoop

Json = dict[str, Any]
PIECE = re.compile(r"<(\d+)\.(\d+)>")  # process, number
AWAY = "The engine is away."
MESSAGE = re.compile(r"\[m(\d+)\]")


class Process:
    """One process of a turn, as its worker sees it and as the world does."""

    def __init__(self, number: int, turn: Claimed, loop: SimulatedLoop, random: Random) -> None:
        self.number, self.turn = number, turn
        self.pid = 1000 + number
        self.host = Host(f"process {number}")
        self.began_at, self.ended_at = loop.time(), float("inf")
        self.prompts: list[str] = []
        self.steered: list[str] = []
        self.pieces = 0  # of text that it said
        self.late = False  # its host stood still while it was started, or was thought to be dead
        self._loop, self._random = loop, random
        self._out: list[Line] = []
        self._in: list[Json] = []
        self._eof = False
        self._heard, self._said, self._over = anyio.Event(), anyio.Event(), anyio.Event()
        self._exited: Exited | None = None
        self._life = loop.spawn(self.host, self._live())

    @property
    def alive(self) -> bool:
        return self._exited is None

    def kill(self) -> None:
        self.host.dead = self.host.frozen = True
        self._end(Exited(None, SIGKILL))

    async def bury(self) -> None:
        """Let go of what is left of it."""
        self.kill()
        self.host.dead = self.host.frozen = False
        self._life.cancel()
        await asyncio.wait([self._life])

    def _end(self, exited: Exited) -> None:
        if self._exited is None:
            self._exited, self.ended_at = exited, self._loop.time()
            self._said.set()
            self._over.set()

    # -- as a worker sees it

    async def write(self, data: bytes) -> None:
        await checkpoint()
        if self.alive and not self._eof:
            self._in.append(json.loads(data))
            self._heard.set()

    async def close_stdin(self) -> None:
        self._eof = True
        self._heard.set()

    async def lines(self) -> list[Line]:
        await checkpoint()
        while not self._out and self.alive:
            self._said = anyio.Event()
            await self._said.wait()
        lines, self._out = self._out, []
        return lines

    def stderr_tail(self) -> str:
        return ""

    async def wait(self) -> Exited:
        await self._over.wait()
        assert self._exited is not None
        return self._exited

    async def stop(self, *, grace: float = 2.0) -> Exited:
        with anyio.CancelScope(shield=True):
            await self.close_stdin()
            with anyio.move_on_after(grace if self._random.random() < 0.5 else grace * self._random.random()):
                await self._over.wait()
            self.kill()
            return await self.wait()

    async def aclose(self) -> None:
        await self.stop(grace=0)

    # -- what it does

    async def _live(self) -> None:
        draw = self._random.random
        turn = await self._read()
        if turn is None:
            return self._end(Exited(0, None))
        self.prompts.append(turn["prompt"])
        if draw() < 0.8:
            self._say("session", id=turn["session"] or f"native-{self.number}")
        for step in range(self._random.choice((0, 1, 2, 3, 6))):
            if await self._pause(self._random.choice((0.005, 0.1, 0.5, 1.0)) * draw()):
                return await self._leave("canceled")
            if draw() < 0.4:
                self._say("tool_start", call_id=f"c{step}", tool="shell", input={"command": "true"})
                if await self._pause(draw()):
                    return await self._leave("canceled")
                self._say("tool_result", call_id=f"c{step}", output="", is_error=False, exit_code=0)
            else:
                self._piece()
        if draw() < 0.05:
            await anyio.sleep_forever()  # says nothing any more
        if draw() < 0.15:
            return self._end(Exited(1, None))
        if draw() < 0.15:
            self._say("ask", question="Which?")
            return await self._leave("needs_input")
        return await self._leave(self._random.choices(("completed", "rejected", "failed"), (8, 1, 1))[0])

    def _piece(self) -> None:
        self._say("chunk", text=f"<{self.number}.{self.pieces}>")
        self.pieces += 1

    async def _leave(self, reason: str) -> None:
        more = {"error": {"category": "rate_limit", "text": "slow down"}} if reason == "failed" else {}
        self._say("done", yield_reason=reason, **more)
        if self._random.random() < 0.1:
            await anyio.sleep_forever()  # it has to be made to go
        while not self._eof:
            await self._read()
        await anyio.sleep(self._random.random() * 0.3)
        self._end(Exited(0, None))

    async def _pause(self, seconds: float) -> bool:
        """Work for a while. True when it was interrupted, and minds."""
        with anyio.move_on_after(seconds):
            while (message := await self._read()) is not None:
                if message["type"] == "interrupt" and self._random.random() < 0.8:
                    return True
                if message["type"] == "steer" and self._random.random() < 0.8:
                    self.steered.append(message["text"])
                    self._say("steered", id=message["id"])
                    self._piece()
            await anyio.sleep_forever()
        return False

    async def _read(self) -> Json | None:
        while not self._in and not self._eof:
            self._heard = anyio.Event()
            await self._heard.wait()
        return self._in.pop(0) if self._in else None

    def _say(self, type: str, **more: Any) -> None:
        self._out.append(Line(json.dumps({"type": type, **more}).encode()))
        self._said.set()


@dataclass
class Starting:
    """Where the processes of one simulated worker come from."""

    machine: Machine
    holds: Callable[[str], Claimed]  # the turn its worker holds under an id
    mine: list[Process] = field(default_factory=list)
    warden: Any = None
    warm: Warm = field(default_factory=lambda: Warm(0, 0, 0))
    closed: bool = False
    doubted: bool = False  # its worker was thought to be dead
    engines: Any = None
    away: bool = False  # its engine

    def __post_init__(self) -> None:
        self.warden = SimpleNamespace(start=checkpoint, pid=1)

    async def silent(self) -> str:
        await self.machine.wait()
        return AWAY if self.away else ""

    def engine_dies(self) -> None:
        """And what it runs with it."""
        self.away = True
        self.kill()

    def _reach(self, spec: AgentSpec) -> None:
        if self.away and spec.needs_engine:
            raise EngineGone(ECONNREFUSED, AWAY)

    async def spawn(
        self, launch: Launch, place: Place, spec: AgentSpec, turn: str, egress: Path | None = None, part: str = ""
    ) -> Process:
        asked_at = self.machine.loop.time()
        await self.machine.wait()
        self._reach(spec)
        if self.closed:
            raise LaunchError(EINVAL, "The gateway is shutting down.")
        if self.machine.random.random() < 0.02:
            raise LaunchError(EAGAIN, "Not now.")
        process = self.machine.started(self.holds(turn))
        process.late = self.doubted or self.machine.loop.time() > asked_at + 0.5
        self.mine.append(process)
        try:
            await self.machine.wait()
        except BaseException:
            await process.aclose()
            raise
        return process

    async def acts_no_more(self, turn: str) -> None: ...

    async def clear(self, turn: str) -> None:
        """Asked only for a turn that needs an engine."""
        await self.machine.wait()
        if self.away:
            raise EngineGone(ECONNREFUSED, AWAY)

    async def sweep(self) -> None: ...

    async def sweep_forever(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closed = True
        self.kill()

    def kill(self) -> None:
        """The warden is gone, and what it started with it."""
        for process in self.mine:
            process.kill()


class Machine:
    """All processes of turns there ever were."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self.loop, self.random = loop, random
        self.processes: list[Process] = []

    async def wait(self) -> None:
        await anyio.sleep(self.random.random() * self.random.choice((0.001, 0.02, 0.2)))

    def started(self, turn: Claimed) -> Process:
        process = Process(len(self.processes), turn, self.loop, self.random)
        self.processes.append(process)
        return process

    def kill_leftovers(self, turn_id: str) -> int:
        left = [process for process in self.processes if process.turn.id == turn_id and process.alive]
        for process in left:
            process.kill()
        return len(left)
