"""From an agent version to a command: what the runtime is told, and how it is called."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.dialogue import Turn
from adapters.launch.process import LaunchError
from adapters.profile import Launch, Mode, Plan, Profile
from gateway.turns.asked import Asked
from gateway.turns.spec import AgentSpec


@dataclass(frozen=True, slots=True)
class Place:
    """A session's directories: `home` is the runtime's journal, `work` its working directory."""

    home: Path
    work: Path

    @classmethod
    def of(cls, sessions_dir: Path, session_id: str) -> Place:
        place = sessions_dir.resolve() / session_id  # as `getcwd` tells it: a symlink on the way would pass the veil
        return cls(place / "home", place / "work")

    @property
    def hands(self) -> Path:
        """HOME of what acts for a runtime that is an image."""
        return self.work.parent / "hands"

    @property
    def shown(self) -> dict[str, str]:
        """What callers read in place of each path."""
        return {str(self.work): "/workspace", str(self.home): "~", str(self.work.parent): "/session"}

    def make(self) -> None:
        for path in (self.home, self.work):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)


def model_of(spec: AgentSpec, profile: Profile) -> tuple[str | None, str | None]:
    """(provider, the vendor's model id)."""
    provider, _, model = (spec.model or profile.default_model or "").partition("/")
    return provider or None, model or None


def turn_of(spec: AgentSpec, profile: Profile, place: Place, asked: Asked, native: Mapping[str, Any]) -> Turn:
    """What the dialogue is told. `native` is what the runtime wanted remembered of earlier turns."""
    session = native.get("native_session")
    structured = profile.mode(spec.mode).capabilities.structured
    return Turn(
        prompt=asked.prompt if structured else asked.whole_prompt,
        workspace=str(place.work / spec.work_dir),
        model=model_of(spec, profile)[1],
        native_session=session,
        new_session=None if session else str(uuid.uuid4()),
        system_prompt=spec.prompt or None,
        mcp_servers=spec.mcp_servers,
        memory=native.get("memory") or {},
        parts=asked.parts,
        metadata=asked.metadata,
        message_id=asked.message_id,
        context_id=asked.context_id,
        task_id=asked.task_id,
        references=asked.references,
    )


def variables(spec: AgentSpec, profile: Profile) -> dict[str, str]:
    """Those the profile names come from the agent first, then from the gateway; the agent's others are the owner's own."""
    return {**{name: os.environ[name] for name in profile.all_env_names() if name in os.environ}, **spec.env}


def launch_of(spec: AgentSpec, profile: Profile, mode: Mode, place: Place, turn: Turn, env: Mapping[str, str]) -> Launch:
    """How to start the process. Raises LaunchError where the runtime is not to be found."""
    if mode.launch is None:
        raise LaunchError(errno.EINVAL, f"Mode {mode.name!r} of runtime {spec.runtime!r} can only be replayed.")
    plan = Plan(
        executable=_executable(spec, profile),
        home=str(place.home),
        turn=turn,
        provider=model_of(spec, profile)[0],
        env=env,
        command=spec.command,
        max_turns=spec.limits.get("max_turns"),
        is_root=os.geteuid() == 0 and spec.placement != "docker",
    )
    launch = mode.launch(plan)
    return replace(launch, env={**env, **launch.env})


def _executable(spec: AgentSpec, profile: Profile) -> str:
    if not profile.executable:
        return ""
    if spec.placement == "docker":
        return _inside(spec, profile)
    found = shutil.which(profile.executable)
    if found is None:
        raise LaunchError(
            errno.ENOENT,
            f"Runtime {spec.runtime!r} of agent {spec.name!r} was not found on PATH. {profile.install_hint} "
            f"Or choose another one: switchboard agent update {spec.name} --runtime NAME",
        )
    return found


def _inside(spec: AgentSpec, profile: Profile) -> str:
    """As the image has it, on its own PATH."""
    if os.path.isabs(profile.executable):
        raise LaunchError(
            errno.ENOENT,
            f"Runtime {spec.runtime!r} is a part of the gateway, no image has it. "
            f"Run: switchboard agent update {spec.name} --placement sandboxed",
        )
    return profile.executable
