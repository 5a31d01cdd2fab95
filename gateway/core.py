"""What every process of an installation has, whether it answers callers, runs turns or does both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.profile import Profile
from adapters.registration import profiles
from gateway.agents import Agents
from gateway.db.engine import Database
from gateway.deliver import configs, outbox
from gateway.deliver.guard import Guard
from gateway.egress.gate import Gates
from gateway.errors import UsageError
from gateway.files.store import Disk
from gateway.hints import Hints
from gateway.log.store import Log
from gateway.owner.border import load_secrets
from gateway.settings import Settings
from gateway.turns.engine import Engine
from registry import repo
from registry.secrets import Secrets

REMAKE = (
    "make one by: (umask 077; echo $(openssl rand -hex 4) $(openssl rand -base64 32) > secrets.key) in its place, "
    "and set each secret again"
)


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
        secrets = load_secrets(settings) if settings.secrets_key_file.exists() else Secrets({}, "")
        agents, log, store = Agents(database, secrets), Log(database), Disk(settings.files_dir)
        gates = Gates(Guard.allowing(settings.egress_private_hosts, setting="SWITCHBOARD_EGRESS_PRIVATE_HOSTS"))
        engine = Engine(log, settings, runtimes, agents.spec, store, gates)
        log.within.append(outbox.enqueue)
        Hints(log, engine)
        return cls(settings, runtimes, database, secrets, agents, log, store, engine)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Raises SwitchboardError: Unavailable for the database, UsageError for keys that are lost."""
        await self.database.start()
        try:
            if not self.secrets.current:
                await self._make_key()
            yield
        finally:
            await self.database.aclose()

    async def _make_key(self) -> None:
        """The first key that seals: not before it is sure that nothing was sealed by another."""
        path = self.settings.secrets_key_file
        if not path.exists() and await self.database.read(lambda conn: repo.seals(conn) or configs.seals(conn)):
            raise UsageError(
                f"The database holds secrets of agents or webhooks, and the key file '{path}' that opens them is missing.",
                f"Restore it from a backup, or copy it from another gateway of this installation. If it is lost, {REMAKE}.",
            )
        self.secrets.take(load_secrets(self.settings))
