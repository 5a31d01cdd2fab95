"""Those who call: they send messages, steer, cancel and interrupt, and write down what they were told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import anyio

from gateway.errors import SwitchboardError
from gateway.turns.engine import Engine
from gateway.turns.queue import Accepted
from gateway.turns.spec import Inbound
from tests.crash.simulated.runtime import Machine

AGENT, PRINCIPAL = "agt_1", "caller:one"


@dataclass
class Sent:
    """A message, and what was answered."""

    number: int
    accepted: Accepted | None = None
    answered: bool = False

    @property
    def text(self) -> str:
        return f"[m{self.number}]"


@dataclass
class Callers:
    engine: Engine
    machine: Machine
    random: Random
    say: Callable[[str], None]
    sent: list[Sent] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)  # tasks whose cancel has returned
    problems: list[str] = field(default_factory=list)

    async def call(self) -> None:
        for _ in range(self.random.choice((1, 2, 4, 8))):
            await anyio.sleep(self.random.random() * self.random.choice((0.01, 1, 4)))
            known = [sent.accepted for sent in self.sent if sent.accepted]
            about = self.random.choice(known) if known and self.random.random() < 0.8 else None
            try:
                await self._one(about)
            except SwitchboardError as exc:
                self.say(f"a caller is refused: {exc.message}")

    async def _one(self, about: Accepted | None) -> None:
        draw = self.random.random()
        if about is None:
            await self._send()
        elif draw < 0.5:
            mode = self.random.choices(("queue", "steer", "auto"), (2, 2, 3))[0]
            where = {"task_id": about.task_id} if self.random.random() < 0.6 else {"context_id": about.session_id}
            await self._send(mode=mode, **where)
        elif draw < 0.75:
            await self._cancel(about.task_id)
        elif draw < 0.9:
            await self._interrupt(about.session_id)
        else:
            await self._send(context_id=about.session_id)

    async def _send(self, **more: str) -> None:
        sent = Sent(len(self.sent))
        self.sent.append(sent)
        new = Inbound(parts=({"text": sent.text},), **more)  # type: ignore[arg-type]
        sent.accepted = await self.engine.accept(AGENT, 1, PRINCIPAL, new)
        self.say(f"{sent.text} is accepted: {sent.accepted.turn_id} of {sent.accepted.session_id} {more}")

    async def _cancel(self, task_id: str) -> None:
        self.say(f"cancel {task_id}")
        await self.engine.cancel(task_id)
        self.say(f"canceled {task_id}")
        self.canceled.append(task_id)
        turns = {sent.accepted.turn_id for sent in self.sent if sent.accepted and sent.accepted.task_id == task_id}
        self._must_be_gone(turns)

    async def _interrupt(self, session_id: str) -> None:
        turn = await self.engine.interrupt(session_id)
        self.say(f"interrupted {turn} of {session_id}")
        self._must_be_gone({turn})

    def _must_be_gone(self, turns: set[str] | set[str | None]) -> None:
        alive = [process for process in self.machine.processes if process.turn.id in turns and process.alive]
        if alive:
            self.problems.append(f"process {alive[0].number} lives on after {alive[0].turn_id} was stopped")
