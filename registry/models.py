"""Tables of what owners register: agents, callers, runtimes that are images; and the runtimes last seen on this machine.

`Agent` is the handle (its name and which version holds); `AgentVersion` is everything an owner can set, written once.
Values of `env` are encrypted by `registry.secrets`. Times are microseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, Text, text
from sqlmodel import Field, SQLModel


class Agent(SQLModel, table=True):
    """A name callers reach, and the version it stands for now."""

    __tablename__ = "agent"

    id: str = Field(primary_key=True)
    name: str
    version: int
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    deleted_at: int | None = Field(default=None, sa_column=Column(BigInteger))

    __table_args__ = (
        Index(
            "ux_agent_name",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )


class AgentVersion(SQLModel, table=True):
    """What an agent was at one version. Never updated: a session keeps the version it began with."""

    __tablename__ = "agent_version"

    agent_id: str = Field(sa_column=Column(Text, ForeignKey("agent.id"), primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    runtime: str
    mode: str | None = None  # None: the runtime's default mode
    model: str | None = None  # canonical provider/model_id; None: the runtime's default
    prompt: str = Field(default="", sa_column=Column(Text, nullable=False))
    description: str = Field(default="", sa_column=Column(Text, nullable=False))
    skills: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    provider: dict[str, str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    documentation_url: str | None = Field(default=None, sa_column=Column(Text))
    icon_url: str | None = Field(default=None, sa_column=Column(Text))
    input_modes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    output_modes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    tags: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    limits: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    env: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))  # NAME -> sealed value
    command: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    mcp_servers: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    placement: str = Field(default="local", sa_column=Column(Text, nullable=False, server_default="local"))
    egress: str | list[str] = Field(default="all", sa_column=Column(JSON, nullable=False, server_default='"all"'))
    egress_mode: str = Field(default="strict", sa_column=Column(Text, nullable=False, server_default="strict"))
    git: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    hooks: dict[str, dict[str, Any]] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}"))
    work_dir: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=text("''")))
    mounts: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    volumes: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    security_opt: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    public: bool = True
    # {description, skills}: what the card shows to signed-in callers besides
    extended: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    # The public face's own version and when it was made: a change of what is private shows in neither.
    edition: int = 1
    edition_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))  # fields this version changed
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))


class Caller(SQLModel, table=True):
    """Somebody who may call, known by a key of which only a keyed hash is kept. A revoked one stays, its name is free."""

    __tablename__ = "caller"

    id: str = Field(primary_key=True)
    name: str
    key_id: str = Field(unique=True)
    key_hash: str
    agents: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))  # ids; None: every agent
    requests_per_minute: int | None = None
    running_tasks: int | None = None
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    rotated_at: int | None = Field(default=None, sa_column=Column(BigInteger))
    revoked_at: int | None = Field(default=None, sa_column=Column(BigInteger))

    __table_args__ = (
        Index(
            "ux_caller_name",
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )


class PushedRuntime(SQLModel, table=True):
    """A runtime that is an image, and the version new sessions get."""

    __tablename__ = "pushed_runtime"

    name: str = Field(primary_key=True)
    version: int
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))
    updated_at: int = Field(sa_column=Column(BigInteger, nullable=False))


class RuntimeVersion(SQLModel, table=True):
    """A version of a pushed runtime. Only its state ever changes: a session keeps the version it began with."""

    __tablename__ = "runtime_version"

    name: str = Field(sa_column=Column(Text, ForeignKey("pushed_runtime.name"), primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    image: str = Field(sa_column=Column(Text, nullable=False))  # as it was pushed: a name and a tag
    digest: str = Field(sa_column=Column(Text, nullable=False))  # what the engine knows it by for good
    providers: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    capabilities: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    env_names: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    state: str = "active"  # active, deprecated
    created_at: int = Field(sa_column=Column(BigInteger, nullable=False))


class Runtime(SQLModel, table=True):
    """A runtime as it was last seen on this machine."""

    __tablename__ = "runtime"

    name: str = Field(primary_key=True)
    path: str | None = None
    version: str | None = None
    checked_at: int = Field(sa_column=Column(BigInteger, nullable=False))
