"""Agents between the registry and those who use them: a face for callers, a spec for the engine, `hello` to begin with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from adapters.profile import Profile
from gateway.a2a.cards import Face
from gateway.auth.callers import Principal, may_call
from gateway.clock import new_id, now_us
from gateway.db.engine import Database
from gateway.egress.policy import Policy
from gateway.owner.border import registry_errors
from gateway.turns.spec import AgentSpec
from registry import hosts, repo
from registry.makeup import Makeup
from registry.rules import Missing
from registry.secrets import Secrets

HELLO = "hello"


@dataclass(frozen=True, slots=True)
class Agents:
    database: Database
    secrets: Secrets

    async def face(self, name: str) -> Face | None:
        """What callers may know of an agent; None when there is none of that name."""

        def op(conn: Connection) -> Face | None:
            try:
                return face_of(repo.get(conn, name))
            except Missing:
                return None

        return await self.database.read(op, snapshot=False)

    async def faces(self, after: str, limit: int) -> list[Face]:
        """Agents whose names come after `after`, by name; private ones too."""
        return await self.database.read(lambda conn: [face_of(record) for record in repo.page(conn, after, limit)])

    async def may_call(self, principal: Principal, agent_id: str) -> bool:
        """Whether somebody may call the agent as it is now; nobody may call one that was deleted."""

        def op(conn: Connection) -> Face | None:
            record = repo.by_id(conn, agent_id)
            return None if record is None else face_of(record)

        face = await self.database.read(op, snapshot=False)
        return face is not None and may_call(principal, face)

    def spec(self, conn: Connection, agent_id: str, version: int) -> AgentSpec:
        """An agent version ready to run, its secrets opened."""
        with registry_errors():
            record = repo.get_version(conn, agent_id, version)
            makeup = record.opened(self.secrets)
        return AgentSpec(
            agent_id=agent_id,
            name=record.name,
            version=version,
            runtime=makeup.runtime,
            mode=makeup.mode,
            model=makeup.model,
            prompt=makeup.prompt,
            limits=makeup.limits,
            env=makeup.env,
            command=tuple(makeup.command),
            mcp_servers=tuple(makeup.mcp_servers),
            placement=makeup.placement,
            egress=policy_of(makeup),
            git=makeup.git,
            hooks=makeup.hooks,
            work_dir=makeup.work_dir,
            mounts=tuple(makeup.mounts),
            volumes=tuple(makeup.volumes),
            security_opt=tuple(makeup.security_opt),
        )

    async def welcome(self, profiles: Mapping[str, Profile]) -> str | None:
        """Register `hello` on the best runtime found, if there has never been an agent. Answers its runtime."""
        runtime = best_runtime(profiles, os.environ)
        if runtime is None:
            return None
        makeup = Makeup(runtime=runtime, description="A first agent to talk to.")

        def op(conn: Connection) -> str | None:
            if repo.ever_any(conn):
                return None
            repo.create(conn, new_id("agt"), HELLO, makeup, ["runtime", "description"], now_us())
            return runtime

        return await self.database.write(op)


def policy_of(makeup: Makeup) -> Policy | None:
    """What the agent may reach, where that is not everything."""
    if not makeup.filtered:
        return None
    named = makeup.egress if isinstance(makeup.egress, list) else []
    everything, strict = makeup.egress == "all", makeup.egress_mode == "strict"
    return Policy(tuple(map(hosts.parse, named)), everything, strict)


def face_of(record: repo.AgentRecord) -> Face:
    return Face(
        agent_id=record.id,
        name=record.name,
        version=record.version,
        description=record.makeup.description,
        skills=tuple(record.makeup.skills),
        public=record.makeup.public,
        edition=record.edition,
        updated_at=record.edition_at,
        extended=record.makeup.extended,
        provider=record.makeup.provider,
        documentation_url=record.makeup.documentation_url,
        icon_url=record.makeup.icon_url,
        input_modes=tuple(record.makeup.input_modes),
        output_modes=tuple(record.makeup.output_modes),
        tags=tuple(record.makeup.tags),
    )


def best_runtime(profiles: Mapping[str, Profile], environ: Mapping[str, str]) -> str | None:
    """The first runtime whose program is there and one of whose keys is set; else the first that needs none."""
    there = [
        profile
        for profile in profiles.values()
        if profile.executable and shutil.which(profile.executable, path=environ.get("PATH"))
    ]
    with_key = (one.name for one in there if any(environ.get(name) for name in one.key_env.values()))
    return next(with_key, next((one.name for one in there if not one.key_env), None))
