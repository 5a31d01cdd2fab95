"""A profile: what the gateway knows of a runtime, as data around its dialogues. Ask it, never the runtime's name.

A runtime has one or more modes (ways of speaking to it). `Mode.launch` says how to start the process for a turn,
`Mode.dialogue` makes the state machine that speaks to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.dialogue import Dialogue, Turn
from adapters.endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class Capabilities:
    deltas: bool = False  # text arrives in pieces
    resume: bool = True  # native resume of a conversation in the same journal
    steer: bool = False  # takes a message while it works
    interrupt: bool = False  # stops a turn and lives on, or at least ends it in its own words
    mcp: bool = False
    structured: bool = False  # is told parts, metadata and references as they are, not only the prompt
    direct: bool = False  # may answer by a message alone, without a task
    replays: bool = False  # begun again after a crash it is told the same, and goes by its own journal or by the log


@dataclass(frozen=True, slots=True)
class Plan:
    """What `launch` may use to start a turn.

    `env` holds all variables of the agent and, of the gateway's, those the profile names (`Profile.all_env_names`), where
    the agent does not set them.
    `home` is the session's journal (the child's HOME); `workspace` its working directory. `provider` and
    `turn.model` are the two halves of the canonical `provider/model_id`.
    """

    executable: str
    home: str
    turn: Turn
    provider: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()  # the agent's own command line, where the profile takes one
    max_turns: int | None = None
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the process. `files` are written below HOME first (mode 0600)."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sees: tuple[str, ...] = ()  # what it reads beside its own package, for a sandbox
    keep_stdin: bool = False  # two-way: stdin stays open after `start`; otherwise it is closed
    image: str = ""  # instead of a command: the image to run, which speaks to the runtime API


@dataclass(frozen=True, slots=True)
class Mode:
    name: str
    dialogue: Callable[[Callable[[], str]], Dialogue]
    launch: Callable[[Plan], Launch] | None  # None: can only be replayed from a recording
    capabilities: Capabilities
    recorded_turn: Callable[[Mapping[str, Any]], Turn]  # the turn a recording's meta.json tells of


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    title: str
    executable: str  # looked up on PATH; "" where the agent brings its own command
    providers: frozenset[str]  # model providers it can drive; empty: it chooses its model itself
    modes: Mapping[str, Mode]
    default_mode: str
    key_env: Mapping[str, str] = field(default_factory=dict)  # provider -> variable with its API key
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)  # provider -> how a gateway in between reaches it
    env_names: tuple[str, ...] = ()  # further variables that may reach the child
    default_model: str | None = None  # canonical provider/model_id
    known_versions: str = ""  # the version the recordings were made with
    version_argv: tuple[str, ...] = ("--version",)
    install_hint: str = ""
    takes_command: bool = False
    image: str = ""  # of a runtime that is an image of its own and runs in a container only
    wants: tuple[str, ...] = ()  # variables its agents should have

    def mode(self, name: str | None = None) -> Mode:
        return self.modes[name or self.default_mode]

    def all_env_names(self) -> tuple[str, ...]:
        return (*dict.fromkeys([*self.key_env.values(), *self.env_names]),)


def value_after(argv: Sequence[str], flag: str) -> str | None:
    """The argument that follows `flag` in a recorded command line."""
    return argv[argv.index(flag) + 1] if flag in argv[:-1] else None


def parse_version(text: str) -> str | None:
    """The first dotted number a `--version` prints."""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found.group(0) if found else None
