"""What a claimed turn is run with: its agent version, its runtime, what it is asked, and the runner made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from adapters.profile import Profile
from gateway.egress.gate import Gates
from gateway.errors import RuntimeUnavailable, SwitchboardError
from gateway.files.store import Store
from gateway.log.store import Log
from gateway.settings import Settings
from gateway.turns import inbox, queue, resume
from gateway.turns.asked import Asked, asked_of
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.limits import stricter
from gateway.turns.memory import Memory
from gateway.turns.runner import Runner
from gateway.turns.runtimes import profile_of
from gateway.turns.spec import AgentLoader, AgentSpec
from gateway.turns.starter import Starter


@dataclass(slots=True)
class Maker:
    """Of one worker. `may_start`: whether a turn held here is surely still its own."""

    log: Log
    settings: Settings
    profiles: Mapping[str, Profile]
    load_agent: AgentLoader
    store: Store
    gates: Gates
    starter: Starter
    memory: Memory
    may_start: Callable[[], bool]

    async def runner(self, turn: Claimed) -> Runner:
        """For the turn's next attempt. Raises RuntimeUnavailable, NotFound, Unavailable, OSError."""

        def load(conn: Connection) -> tuple[AgentSpec, Profile | None, Claimed, Asked]:
            spec, profile = self._made_of(conn, turn)
            asked = asked_of(conn, turn)
            return spec, profile, *(resume.continued(conn, turn, asked, profile, spec.mode) if profile else (turn, asked))

        spec, profile, turn, asked = await self.log.database.read(load)
        spec = replace(spec, limits=stricter(spec.limits, turn.limits))
        if profile is None:
            said = f"Runtime {spec.runtime!r} of agent {spec.name!r} is no longer known to this gateway."
            mend = f"Install its plug-in here, or run: switchboard agent update {spec.name} --runtime ..."
            raise RuntimeUnavailable(said, mend)
        replays = profile.mode(spec.mode).capabilities.replays
        begun = await self.memory.begin(turn, asked, spec, reads=replays)
        begun = replace(begun, asked=await self._placed(begun.asked, spec))
        log, starter, settings, store, gates = self.log, self.starter, self.settings, self.store, self.gates
        return Runner(begun, spec, profile, log, starter, settings, store, gates, self.memory, self.may_start)

    async def text_of(self, running: Claimed, spec: AgentSpec, waiting: str) -> str:
        """What a running turn is given of one that waits to join it. Raises Unavailable."""
        asked = await self.log.database.read(lambda conn: asked_of(conn, running, waiting))
        return (await self._placed(asked, spec)).whole_prompt

    async def goes_on(self, turn: Claimed) -> bool:
        """Whether a turn whose process is gone is to have another attempt."""

        def look(conn: Connection) -> tuple[AgentSpec, Profile | None] | None:
            over = queue.has_done(conn, turn) or queue.asked_to_stop(conn, turn)
            return None if over else self._made_of(conn, turn)

        try:
            found = await self.log.database.read(look)
        except SwitchboardError:
            return False  # whoever ends it tells why
        spec, profile = found or (None, None)
        if spec is None or profile is None:
            return False
        limits = stricter(spec.limits, turn.limits)
        return resume.may_go_on(turn, profile.mode(spec.mode), limits.get("turn_attempts", self.settings.turn_attempts))

    def _made_of(self, conn: Connection, turn: Claimed) -> tuple[AgentSpec, Profile | None]:
        spec = self.load_agent(conn, turn.agent_id, turn.agent_version)
        return spec, profile_of(conn, self.profiles, spec.runtime, turn.runtime_version)

    async def _placed(self, asked: Asked, spec: AgentSpec) -> Asked:
        """What is asked, its files put where the runtime finds them."""
        place = Place.of(self.settings.sessions_dir, asked.context_id)
        return await inbox.placed(self.store, place, asked, spec.work_dir)
