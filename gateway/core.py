"""What every process of an installation has, whether it answers callers, runs turns or does both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.profile import Profile
from adapters.registration import profiles
from gateway.agents import Agents
from gateway.db.engine import Database
from gateway.deliver import outbox
from gateway.deliver.guard import Guard
from gateway.egress.gate import Gates
from gateway.files.store import Disk
from gateway.hints import Hints
from gateway.log.store import Log
from gateway.owner.border import load_secrets
from gateway.settings import Settings
from gateway.turns.engine import Engine
from registry.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Core:
    settings: Settings
    runtimes: Mapping[str, Profile]
    database: Database
    secrets: Secrets
    agents: Agents
    log: Log
    store: Disk
    engine: Engine

    @classmethod
    def of(cls, settings: Settings, runtimes: Mapping[str, Profile] | None = None) -> Core:
        """Raises SwitchboardError if it cannot be set up."""
        runtimes = runtimes if runtimes is not None else profiles(conformance=settings.conformance)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database(settings.database)
        secrets = load_secrets(settings)
        agents, log, store = Agents(database, secrets), Log(database), Disk(settings.files_dir)
        gates = Gates(Guard.allowing(settings.egress_private_hosts, setting="SWITCHBOARD_EGRESS_PRIVATE_HOSTS"))
        engine = Engine(log, settings, runtimes, agents.spec, store, gates)
        log.within.append(outbox.enqueue)
        Hints(log, engine)
        return cls(settings, runtimes, database, secrets, agents, log, store, engine)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        await self.database.start()
        try:
            yield
        finally:
            await self.database.aclose()
