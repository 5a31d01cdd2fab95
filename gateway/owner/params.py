"""The parameters of every method, as pydantic models: what they may hold, and errors that quote what they held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gateway.checked import checked
from registry.shapes import Extended, Git, Hook, Line, McpServer, Mount, Provider, Skill, Volume

_SECRET = ("env", "headers", "mcp_servers", "password")  # may hold secrets


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


P = TypeVar("P", bound=Params)


class Changes(Params):
    """Fields of an agent. Those left out stay as they are; null brings the default back."""

    runtime: str = ""
    mode: str | None = None
    model: str | None = None
    prompt: str | None = None
    description: str | None = None
    skills: list[Skill] | None = None
    provider: Provider | None = None
    documentation_url: str | None = None
    icon_url: str | None = None
    input_modes: list[str] | None = Field(None, max_length=50)
    output_modes: list[str] | None = Field(None, max_length=50)
    tags: list[Line] | None = Field(None, max_length=50)
    limits: dict[str, Any] | None = None
    env: dict[str, str | None] | None = None
    command: list[str] | None = None
    mcp_servers: list[McpServer] | None = None
    placement: str | None = None
    egress: str | list[str] | None = None
    egress_mode: str | None = None
    git: Git | None = None
    hooks: dict[str, Hook | None] | None = None
    work_dir: str | None = None
    mounts: list[Mount] | None = Field(None, max_length=50)
    volumes: list[Volume] | None = Field(None, max_length=50)
    security_opt: list[Line] | None = Field(None, max_length=20)
    public: bool | None = None
    extended: Extended | None = None

    def given(self) -> dict[str, Any]:
        """What was sent, as plain values."""
        values = {name: getattr(self, name) for name in self.model_fields_set if name in Changes.model_fields}
        for name in ("skills", "mounts", "volumes"):
            if values.get(name):
                values[name] = [one.model_dump() for one in values[name]]
        if values.get("extended"):
            values["extended"] = values["extended"].model_dump()
        if values.get("provider"):
            values["provider"] = values["provider"].model_dump()
        if values.get("git"):
            values["git"] = values["git"].model_dump(exclude_defaults=True)
        if values.get("hooks"):
            values["hooks"] = {name: hook and hook.model_dump(exclude_none=True) for name, hook in values["hooks"].items()}
        if values.get("mcp_servers"):
            values["mcp_servers"] = [server.model_dump(exclude_unset=True) for server in values["mcp_servers"]]
        return values


class Nothing(Params):
    pass


class Name(Params):
    name: str


class Create(Changes):
    name: str
    runtime: str
    quick: bool = False


class Update(Params):
    name: str
    changes: Changes
    if_version: int | None = None


class CallersAdd(Params):
    name: str
    agents: list[str] | None = Field(None, min_length=1, max_length=1000)
    requests_per_minute: int | None = Field(None, ge=1, le=1_000_000)
    running_tasks: int | None = Field(None, ge=1, le=10_000)


class ImageFacts(Params):
    """What an image can do, as its owner says. Left out: as its current version, where it has one."""

    providers: list[str] | None = Field(None, max_length=20)
    capabilities: list[str] | None = Field(None, max_length=20)
    env_names: list[str] | None = Field(None, max_length=100)


class RuntimesCheck(ImageFacts):
    name: str = Field(max_length=300)


class RuntimesPush(ImageFacts):
    name: str
    image: str = Field(min_length=1, max_length=300)
    unchecked: bool = False


class RuntimesRollback(Params):
    name: str
    version: int | None = Field(None, ge=1)


class RuntimesDeprecate(Params):
    name: str
    version: int = Field(ge=1)


class SessionsList(Params):
    agent: str | None = None
    status: Literal["queued", "running", "awaiting_input", "idle", "failed", "archived"] | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


class SessionId(Params):
    id: str


class SessionsEvents(Params):
    id: str
    after: str | None = None
    limit: int = Field(500, ge=1, le=5000)
    level: Literal["user", "progress", "internal"] = "internal"


class WebhooksList(Params):
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


class WebhooksDeliveries(Params):
    state: Literal["pending", "delivering", "delivered", "dead"] | None = None
    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = None


class WebhookId(Params):
    id: str


class DeliveryId(Params):
    id: str


def parse(model: type[P], params: Mapping[str, Any]) -> P:
    """Raises InvalidParams that says which parameter, why, and what it was."""
    return checked(model, params, secret=_SECRET, see="specs/owner-api.md", kind="parameter ")
