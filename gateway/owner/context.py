"""What the owners' methods work with, handed in by the application."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from adapters.profile import Profile
from gateway.db.engine import Database
from gateway.errors import NotFound, SwitchboardError
from gateway.settings import Settings
from gateway.turns.runtimes import pushed
from registry.images import Image
from registry.repo import AgentRecord
from registry.rules import RuntimeFacts, listed
from registry.secrets import Secrets
from registry.signing import CardKeys


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `doctor`. What is not `required` is advice: it does not make the whole not ok."""

    name: str
    ok: bool
    result: str
    fix: str = ""
    required: bool = True

    def to_json(self) -> dict[str, Any]:
        fix = "" if self.ok else self.fix
        return {"name": self.name, "ok": self.ok, "result": self.result, "fix": fix, "required": self.required}


@dataclass(frozen=True, slots=True)
class Owner:
    """`card` makes an agent's public card; `cancel` ends a session's work and answers the tasks it ended."""

    database: Database
    settings: Settings
    secrets: Secrets
    profiles: Mapping[str, Profile]
    card: Callable[[AgentRecord], dict[str, Any]]
    cancel: Callable[[str], Awaitable[list[str]]]
    card_keys: CardKeys
    ping: Callable[[str], Awaitable[dict[str, Any]]]  # tries a webhook
    examine: Callable[[Image], Awaitable[dict[str, Any]]]  # runs the conformance kit; answers its report
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    more_checks: tuple[Callable[[], Awaitable[Check]], ...] = ()  # of other packages, for doctor

    async def now(self) -> Owner:
        """With the runtimes that were pushed, too."""
        try:
            found = await self.database.read(pushed)
        except SwitchboardError:
            return self  # whoever needs the database says so
        return replace(self, profiles={**found, **self.profiles})

    def profile(self, name: str) -> Profile:
        """Raises NotFound, with the nearest name there is."""
        if name in self.profiles:
            return self.profiles[name]
        names = list(self.profiles)
        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Choose one of: {listed(names)}."
        raise NotFound(f"There is no runtime {name[:100]!r}.", hint)

    def facts(self, name: str) -> RuntimeFacts:
        """The runtime as the registry's rules want it. Raises NotFound."""
        profile = self.profile(name)
        return RuntimeFacts(
            name=profile.name,
            providers=profile.providers,
            modes=frozenset(name for name, mode in profile.modes.items() if mode.launch is not None),
            default_mode=profile.default_mode,
            default_model=profile.default_model,
            takes_command=profile.takes_command,
            mcp_modes=frozenset(name for name, mode in profile.modes.items() if mode.capabilities.mcp),
            contained=bool(profile.image),
        )

    def path_of(self, profile: Profile) -> str | None:
        """Where the runtime's program is; None where it is not to be found, or the agent brings its own."""
        return shutil.which(profile.executable, path=self.environ.get("PATH")) if profile.executable else None

    def installed(self, profile: Profile) -> bool:
        return not profile.executable or self.path_of(profile) is not None
