"""What the agent methods do beyond the registry: quick defaults, and warnings a change deserves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from adapters.profile import Profile
from gateway.log.models import Session
from gateway.owner.context import Owner
from gateway.turns.ground import ground_of
from registry import ground, repo, rules, workspace
from registry.makeup import Makeup
from registry.repo import AgentRecord

UNSANDBOXED = "The agent runs UNSANDBOXED: its commands may do whatever the gateway's own user may do."
IN_FLIGHT = ("queued", "running", "awaiting_input")
_SESSION = Session.__table__  # type: ignore[attr-defined]


def quick(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what a card needs and was not given. No word of the runtime: callers read this."""
    skill = {
        "id": "chat",
        "name": "Chat",
        "description": f"Give {name} a task in plain words.",
        "tags": ["chat"],
        "examples": [],
    }
    defaults = {"description": f"The agent {name}: takes a task in plain words and answers.", "skills": [skill]}
    return {**given, **{field: value for field, value in defaults.items() if not given.get(field)}}


def made(owner: Owner, agent_id: str, given: Mapping[str, Any]) -> Makeup:
    """The make-up of a new agent. Raises what the rules refuse."""
    facts = owner.facts(given["runtime"])
    rules.check_env(given.get("env") or {})
    makeup = Makeup(facts.name).changed({**_contained(facts), **given}, repo.box(owner.secrets, agent_id))
    rules.check(makeup, facts)
    workspace.check(makeup)
    ground.check(makeup, ground_of(owner.settings))
    return makeup


def remade(owner: Owner, old: AgentRecord, given: Mapping[str, Any]) -> Makeup:
    """The make-up after a change. Mode and command belong to a runtime and leave with it, unless they are given."""
    facts = owner.facts(given.get("runtime", old.makeup.runtime))
    rules.check_env(given.get("env") or {})
    left: dict[str, Any] = {}
    if facts.name != old.makeup.runtime:
        left = {"mode": None} if facts.takes_command else {"mode": None, "command": None}
        left |= _contained(facts, old.makeup)
    makeup = old.makeup.changed({**left, **given}, repo.box(owner.secrets, old.id))
    rules.check(makeup, facts)
    workspace.check(makeup)
    ground.check(makeup, ground_of(owner.settings))
    return makeup


def _contained(facts: rules.RuntimeFacts, old: Makeup | None = None) -> dict[str, Any]:
    """What holds for agents whose runtime is an image, unless it is given: they reach their model only."""
    if not facts.contained:
        return {}
    egress = {"egress": "none"} if old is None or not old.filtered else {}
    return {"placement": "docker", **egress}


def warnings(owner: Owner, agent: AgentRecord, in_flight: int = 0) -> list[str]:
    """What an owner should know of the agent as it now is."""
    profile = owner.profile(agent.makeup.runtime)
    out = rules.check(agent.makeup, owner.facts(profile.name))
    if not owner.installed(profile) and agent.makeup.placement != "docker":
        hint = f" Install it: {profile.install_hint}" if profile.install_hint else ""
        out.append(f"Runtime {profile.name!r} was not found on PATH of the gateway.{hint}")
    keys = missing_keys(owner, profile, agent.makeup)
    if keys:
        mend = f"Run: switchboard agent update {agent.name} --env {keys[0]}=..."
        out.append(f"Neither the agent nor the gateway has {' or '.join(keys)}. {mend}")
    lacking = [name for name in profile.wants if name not in agent.makeup.env]
    if lacking:
        mend = f"Run: switchboard agent update {agent.name} --env {lacking[0]}=..."
        out.append(f"Runtime {profile.name!r} wants {' and '.join(lacking)}, which the agent does not have. {mend}")
    if agent.makeup.placement == "local" and (profile.providers or profile.takes_command):
        out.append(f"{UNSANDBOXED} Run: switchboard agent update {agent.name} --placement sandboxed")
    if not agent.makeup.description:
        out.append(f"Callers read no description. Run: switchboard agent update {agent.name} --description ...")
    if in_flight:
        what = "1 session in flight keeps" if in_flight == 1 else f"{in_flight} sessions in flight keep"
        out.append(f"{what} the version it began with." if in_flight == 1 else f"{what} the version they began with.")
    return out


def missing_keys(owner: Owner, profile: Profile, makeup: Makeup) -> list[str]:
    """The variables of which the agent needs one and has none."""
    model = makeup.model or profile.default_model
    providers = [rules.split_model(model)[0]] if model else sorted(profile.providers)
    names = [profile.key_env[provider] for provider in providers if provider in profile.key_env]
    return [] if any(name in makeup.env or owner.environ.get(name) for name in names) else names


def count_in_flight(conn: Connection, agent: AgentRecord) -> int:
    """Sessions at work that hold an older version."""
    older = (_SESSION.c.agent_id == agent.id) & (_SESSION.c.agent_version < agent.version)
    count = select(func.count()).select_from(_SESSION).where(older, _SESSION.c.status.in_(IN_FLIGHT))
    return int(conn.execute(count).scalar_one())
