"""What the engine is told: the message to work on, and the agent version that does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection

from gateway.egress.policy import Policy
from gateway.files.refs import STORED, Kept


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent version ready to run: secrets opened, nothing of the database left."""

    agent_id: str
    name: str
    version: int
    runtime: str
    mode: str | None = None
    model: str | None = None  # canonical provider/model_id
    prompt: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    mcp_servers: tuple[Mapping[str, Any], ...] = ()
    placement: str = "local"
    egress: Policy | None = None  # None: everything
    git: Mapping[str, Any] | None = None  # as its owner gave it: registry.shapes.Git
    hooks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> {command, seconds}
    work_dir: str = ""  # below the workspace: where the runtime starts
    mounts: tuple[Mapping[str, Any], ...] = ()  # and the next two: as registry.ground has them
    volumes: tuple[Mapping[str, Any], ...] = ()
    security_opt: tuple[str, ...] = ()

    @property
    def needs_engine(self) -> bool:
        """Whether it runs in containers."""
        return self.placement == "docker"


AgentLoader = Callable[[Connection, str, int], AgentSpec]


# What a message does where a turn runs already: wait for its own turn; join the running one (or be refused where none
# runs); join it if one runs. See gateway.turns.orders.
Mode = Literal["queue", "steer", "auto"]


@dataclass(frozen=True, slots=True)
class Inbound:
    """A caller's message. `parts` are {"text"}, {"data"} as A2A has them, and {"stored"} for files (gateway.files.refs).

    `files` are those the parts name: their rows are written with the message. `direct`: whoever sent it waits for the
    answer, and takes a message alone instead of a task.
    """

    parts: tuple[Mapping[str, Any], ...]
    message_id: str = ""
    context_id: str | None = None
    task_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reference_task_ids: tuple[str, ...] = ()
    direct: bool = False
    digest: str | None = None  # of the whole request, by which it is known when it comes again
    mode: Mode = "queue"
    limits: Mapping[str, Any] = field(default_factory=dict)  # of the session it begins; see gateway.turns.limits
    files: tuple[Kept, ...] = ()

    def body(self) -> dict[str, Any]:
        made = {"message_id": self.message_id, "parts": [dict(part) for part in self.parts], "metadata": dict(self.metadata)}
        more = {"reference_task_ids": list(self.reference_task_ids), "direct": self.direct}
        return made | {name: value for name, value in more.items() if value}


def prompt_of(bodies: list[dict[str, Any]]) -> str:
    """Messages as a runtime is given them: their text, their data as JSON, and a line for each file."""
    return "\n\n".join(_text_of(part) for body in bodies for part in body["parts"])


def _text_of(part: Mapping[str, Any]) -> str:
    if "text" in part:
        return str(part["text"])
    if "path" in part:
        return f"Attached file: {part['path']} ({part['mediaType']})"
    if STORED in part:
        return f"Attached file: {part[STORED]['name']} ({part[STORED]['media_type']})"
    return json.dumps(part.get("data"), ensure_ascii=False)
