"""Shapes of the structured fields of an agent: what a skill and an MCP server consist of, nothing more."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Text = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Skill(_Shape):
    """A skill as the agent's card shows it."""

    id: Id
    name: Line
    description: Text = ""
    tags: list[Line] = Field(default_factory=list, max_length=50)
    examples: list[Text] = Field(default_factory=list, max_length=50)


class Extended(_Shape):
    """What the card shows to callers who signed in: a description instead of the public one, skills besides the public ones."""

    description: Text = ""
    skills: list[Skill] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> Extended:
        if not self.description and not self.skills:
            raise ValueError("give a description, skills, or both")
        return self


class Provider(_Shape):
    """Who offers the agent."""

    organization: Line
    url: str


class Git(_Shape):
    """A repository. `ref`: a branch, a tag or a commit; without one, what its server has as HEAD. `password` is a secret."""

    url: str
    ref: str | None = None
    depth: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    submodules: bool = False
    username: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f:]{1,200}$")] | None = None
    password: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,4000}$")] | None = None


class Hook(_Shape):
    """A command of /bin/sh, and how long it may take. What is left out stays as it is."""

    command: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"^[^\x00]*$")] | None = None
    seconds: Annotated[float, Field(gt=0, le=3600)] | None = None


class Mount(_Shape):
    """A directory or a file of the machine, seen inside at `target`."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    target: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    writable: bool = False


class Volume(_Shape):
    """A directory the gateway keeps for the agent, seen inside at `target`; it may be written."""

    name: Id
    target: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class McpServer(_Shape):
    """An MCP server: started by `command`, or reached at `url`. Values of `env` and `headers` are secrets."""

    name: Id
    command: Line | list[Line] | None = None
    args: list[Text] = Field(default_factory=list)
    env: dict[str, Text] = Field(default_factory=dict)
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    type: Literal["http", "sse"] | None = None
    headers: dict[str, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if bool(self.command) == bool(self.url):
            raise ValueError("give either command or url")
        if self.url and (self.args or self.env):
            raise ValueError("args and env go with command, headers with url")
        if self.command and (self.headers or self.type):
            raise ValueError("headers and type go with url, args and env with command")
        return self
