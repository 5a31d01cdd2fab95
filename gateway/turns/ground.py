"""What of the machine one turn is given: its agent's mounts, looked at anew, and its volumes, made where they are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EPERM
from pathlib import Path

from adapters.launch.home import Bind
from adapters.launch.process import LaunchError
from gateway.settings import Settings, named
from gateway.turns.spec import AgentSpec
from registry import ground
from registry.rules import Invalid


def ground_of(settings: Settings) -> ground.Ground:
    """What the operator lets agents have."""
    security = frozenset(named(settings.container_security_options))
    return ground.Ground(tuple(named(settings.mount_roots)), security, str(settings.data_dir))


def binds(spec: AgentSpec, settings: Settings, give: Callable[[Path], None]) -> list[Bind]:
    """What is to be seen inside. `give`: hands a volume over to whoever the agent runs as. Raises LaunchError, OSError."""
    found = []
    for mount in spec.mounts:
        try:
            source = ground.source_of(mount["source"], ground_of(settings))
        except Invalid as exc:
            raise LaunchError(EPERM, f"{exc.message} {exc.hint}") from exc
        found.append(Bind(source, mount["target"], mount["writable"]))
    for volume in spec.volumes:
        folder = settings.volumes_dir.resolve() / spec.agent_id / volume["name"]
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        give(folder)
        found.append(Bind(os.fspath(folder), volume["target"], True))
    return found
