"""Agents and runtimes as owners read them: plain JSON, no secret in it, each value with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from adapters.profile import Profile
from gateway.clock import iso
from gateway.owner.context import Owner
from registry.makeup import FIELDS, SHOWN
from registry.repo import AgentRecord, RuntimeSeen
from registry.rules import LIMITS
from registry.signing import CardKey

_FROM_SETTINGS = ("turn_seconds", "stall_seconds", "turn_attempts")  # limits the gateway sets for agents that have none


def agent_url(owner: Owner, name: str) -> str:
    return f"{owner.settings.url}/agents/{name}"


def card_url(owner: Owner, name: str) -> str:
    return f"{agent_url(owner, name)}/.well-known/agent-card.json"


def head(owner: Owner, agent: AgentRecord) -> dict[str, Any]:
    return {
        "name": agent.name,
        "version": agent.version,
        "url": agent_url(owner, agent.name),
        "card_url": card_url(owner, agent.name),
        "created_at": iso(agent.created_at),
        "updated_at": iso(agent.updated_at),
    }


def agent(owner: Owner, record: AgentRecord) -> dict[str, Any]:
    return {**head(owner, record), **record.makeup.shown()}


def agent_line(owner: Owner, record: AgentRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "runtime": record.makeup.runtime,
        "model": record.makeup.model,
        "version": record.version,
        "description": record.makeup.description,
        "url": agent_url(owner, record.name),
        "updated_at": iso(record.updated_at),
    }


def version_line(record: AgentRecord) -> dict[str, Any]:
    return {
        "version": record.version,
        "created_at": iso(record.updated_at),
        "changed": list(record.changed),
        "runtime": record.makeup.runtime,
        "model": record.makeup.model,
    }


def values(owner: Owner, record: AgentRecord, origins: Mapping[str, int]) -> dict[str, Any]:
    """Every value that holds for the agent, with its source. Maps are spread: `limits.turn_seconds`, `env.NAME`."""
    shown = record.makeup.shown()
    out: dict[str, Any] = {}
    for name in FIELDS:
        if name == "limits":
            out |= _limits(owner, shown[name], origins)
        elif name == "env":
            out |= _env(owner, record, shown[name], origins)
        else:
            out[name] = _value(owner, record, name, shown[name], origins)
    return out


def _value(owner: Owner, record: AgentRecord, name: str, value: Any, origins: Mapping[str, int]) -> dict[str, Any]:
    if value not in (None, "", []) and name in origins:
        return _sourced(value, f"agent version {origins[name]}")
    profile = owner.profiles.get(record.makeup.runtime)
    if name in ("mode", "model") and profile is not None:
        default = profile.default_mode if name == "mode" else profile.default_model
        return _sourced(default, f"default of runtime {profile.name}")
    return _sourced(value, "default")


def _limits(owner: Owner, limits: Mapping[str, Any], origins: Mapping[str, int]) -> dict[str, Any]:
    out = {}
    for name in LIMITS:
        if name in limits:
            found = _sourced(limits[name], f"agent version {origins.get('limits', 1)}")
        elif name in _FROM_SETTINGS:
            given = name in owner.settings.model_fields_set
            found = _sourced(getattr(owner.settings, name), f"SWITCHBOARD_{name.upper()}" if given else "default")
        else:
            found = _sourced(None, "default")
        out[f"limits.{name}"] = found
    return out


def _env(owner: Owner, record: AgentRecord, env: Mapping[str, str], origins: Mapping[str, int]) -> dict[str, Any]:
    """The agent's variables, and the keys that reach it from the gateway."""
    out = {f"env.{name}": _sourced(SHOWN, f"agent version {origins.get('env', 1)}") for name in env}
    profile = owner.profiles.get(record.makeup.runtime)
    for name in profile.key_env.values() if profile else ():
        if name not in env and owner.environ.get(name):
            out[f"env.{name}"] = _sourced(SHOWN, "environment of the gateway")
    return out


def _sourced(value: Any, source: str) -> dict[str, Any]:
    return {"value": value, "source": source}


def changed(old: AgentRecord, new: AgentRecord) -> dict[str, Any]:
    if old.version == new.version:
        return {}
    before, after = old.makeup.shown(), new.makeup.shown()
    return {name: {"old": before[name], "new": after[name]} for name in new.changed}


def card_key(owner: Owner, key: CardKey) -> dict[str, Any]:
    """A key that signs cards; `published_until` is null for the one that signs now."""
    until = owner.card_keys.until(key)
    return {
        "kid": key.kid,
        "signs": key.retired_at is None,
        "created_at": iso(key.created_at),
        "retired_at": iso(key.retired_at) if key.retired_at is not None else None,
        "published_until": iso(until) if until is not None else None,
    }


def runtime(owner: Owner, profile: Profile, seen: RuntimeSeen | None) -> dict[str, Any]:
    """A runtime; its version is what the last check saw at the same place."""
    path = owner.path_of(profile)
    offered = {name: mode for name, mode in profile.modes.items() if mode.launch is not None}
    modes = [{"name": name, "capabilities": asdict(mode.capabilities)} for name, mode in offered.items()]
    return {
        "name": profile.name,
        "title": profile.title,
        "providers": sorted(profile.providers),
        "modes": modes,
        "default_mode": profile.default_mode,
        "default_model": profile.default_model,
        "installed": owner.installed(profile),
        "path": path,
        "version": seen.version if seen and seen.path == path else None,
    }
