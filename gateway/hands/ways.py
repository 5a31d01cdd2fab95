"""The way out of a session's container: its agent's egress policy, for as long as a turn runs.

The container itself never has more than a loopback. While a turn that calls tools runs, a relay stands on that loopback, in a
small container of its own, and leads to a gate of this turn's: so what is reached is judged by the turn's policy and written
down under its name, and what a command left behind reaches nothing once the turn is over. A container that was stopped
meanwhile, by whomever, wakes without a way; one is opened on its new loopback. The gate knows no model and no key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc
import structlog

from adapters import events as ev
from adapters.events import Event
from adapters.launch.container import INSTALLATION, TURN, WORKER, Container, Engine
from adapters.launch.hands import NOTHING, Awake, Room
from adapters.launch.process import LaunchError
from adapters.launch.reaching import EngineGone
from adapters.launch.sandbox import RELAY_PORT
from adapters.launch.sidecar import sidecar
from gateway.egress.gate import PROXIED, Gates, Way
from gateway.egress.policy import EVERYTHING, Policy
from gateway.errors import SwitchboardError
from gateway.settings import Settings
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.spec import AgentSpec
from gateway.turns.starter import user_inside

FOLDER = "way"  # beside the session's other directories: of the gate's socket

log_ = structlog.get_logger("switchboard.hands")


class Teller(Protocol):
    """A running turn, and the way into its log."""

    @property
    def turn(self) -> Claimed: ...

    @property
    def place(self) -> Place: ...

    @property
    def spec(self) -> AgentSpec: ...

    async def say(self, line: Mapping[str, Any]) -> None: ...


@dataclass(slots=True)
class _Held:
    """A way beside one container that runs. One that `failed` stays closed for as long as that runs."""

    teller: Teller
    beside: Awake
    failed: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    opened: anyio.Event = field(default_factory=anyio.Event)  # or failed
    closed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def holds(self) -> bool:
        return self.failed or not self.closed.is_set()

    async def close(self) -> None:
        self.scope.cancel()
        await self.closed.wait()


@dataclass(slots=True)
class _OfTurn:
    held: _Held | None = None
    opening: anyio.Lock = field(default_factory=anyio.Lock)


class Ways:
    """Those of one worker."""

    def __init__(self, engine: Engine, gates: Gates, settings: Settings, worker: str) -> None:
        self._engine, self._gates, self._settings, self._worker = engine, gates, settings, worker
        self._turns: dict[str, _OfTurn] = {}
        self.group: anyio.abc.TaskGroup | None = None  # in which ways are held open

    async def of(self, teller: Teller, room: Room) -> Mapping[str, str]:
        """The variables by which a command of a turn finds its way out, which is open then. Raises LaunchError.

        Where it cannot be opened the owner is told why, and nothing answers under these variables.
        """
        if not _policy(teller).passes:
            return NOTHING
        awake, mine = await room.awake(), self._turns.setdefault(teller.turn.id, _OfTurn())
        async with mine.opening:
            held = mine.held
            if held is not None and not (held.beside == awake and held.holds):
                await held.close()
                held = None
            if held is None:
                assert self.group is not None
                held = mine.held = _Held(teller, awake)
                self.group.start_soon(self._hold, held)
            held.teller = teller
            await held.opened.wait()
        return PROXIED

    async def close(self, turn: str) -> None:
        """The turn is over, and none of its calls runs. Returns when nothing of its way is left."""
        mine = self._turns.pop(turn, None)
        if mine is not None and mine.held is not None:
            await mine.held.close()

    async def _hold(self, held: _Held) -> None:
        teller = held.teller
        named = {"agent": teller.spec.name, "session": teller.turn.session_id, "turn": teller.turn.id, "at": "sandbox"}
        way = Way(_policy(teller), None, None, {}, teller.place.work.parent / FOLDER)
        try:
            with held.scope:
                async with self._gates.opened(way, lambda events: self._tell(held, events), **named) as gate:
                    relay = await self._relay(held, gate.socket)
                    held.opened.set()
                    if relay is not None:
                        await _until_gone(relay)
        except Exception:
            held.failed = True
            log_.exception("sandbox_way_broken", turn=teller.turn.id)
        finally:
            held.opened.set()
            held.closed.set()

    async def _relay(self, held: _Held, socket: Path) -> Container | None:
        """None where there is none, and the owner has been told."""
        installation, turn = str(self._settings.sessions_dir.resolve()), held.teller.turn.id
        labels = {INSTALLATION: installation, WORKER: self._worker, TURN: turn}
        image, ways = self._settings.sidecar_image, {RELAY_PORT: socket}
        try:
            return await sidecar(self._engine, ways=ways, image=image, user=user_inside(), labels=labels, joins=held.beside.id)
        except (LaunchError, OSError) as exc:
            held.failed = not isinstance(exc, EngineGone)
            log_.error("sandbox_without_way", turn=turn, error=str(exc))
            self._tell(held, [ev.notice("sandbox", f"Commands of this turn reach no host: {exc}")])
            return None

    def _tell(self, held: _Held, events: Sequence[Event]) -> None:
        assert self.group is not None
        for event in events:
            self.group.start_soon(self._say, held.teller, {"type": event.type, **event.body})

    async def _say(self, teller: Teller, line: Mapping[str, Any]) -> None:
        try:
            await teller.say(line)
        except SwitchboardError as exc:  # the attempt is over, or the database away
            log_.warning("sandbox_notice_lost", turn=teller.turn.id, notice=line["text"], error=str(exc))


def _policy(teller: Teller) -> Policy:
    return teller.spec.egress or EVERYTHING


async def _until_gone(relay: Container) -> None:
    try:
        while await relay.lines():
            pass
    finally:
        await relay.aclose()
