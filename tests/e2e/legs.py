"""The four legs: what differs between the CLIs, so that scenarios and assertions need not know it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

KEY = "key-of-the-scripted-model"

Json = dict[str, Any]
Spelled = tuple[str, Json]  # the vendor's tool, its arguments


@dataclass(frozen=True, slots=True)
class Leg:
    runtime: str
    model: str
    url_env: str
    key_env: str
    url_path: str  # of the base URL, as the vendor's client wants it
    offers: str  # a tool every turn of this CLI offers its model: tells its requests apart, and from its side requests
    spell: Mapping[str, Callable[[Json], Spelled]]
    steers: bool = True  # takes a message into a running turn; else it is the next turn
    long_requests: bool = False  # longer than the scripted model keeps them

    @property
    def agent(self) -> str:
        return f"leg-{self.runtime}"

    @property
    def boxed(self) -> str:
        """The same agent, placed in a sandbox."""
        return f"{self.agent}-boxed"

    @property
    def contained(self) -> str:
        """The same agent, placed in a container."""
        return f"{self.agent}-contained"

    @property
    def gated(self) -> str:
        """The same agent, in a sandbox without a network."""
        return f"{self.agent}-gated"

    @property
    def walled(self) -> str:
        """The same agent, in a container without a network."""
        return f"{self.agent}-walled"

    def env(self, url: str, *, key: bool = True) -> dict[str, str]:
        return {self.url_env: url + self.url_path} | ({self.key_env: KEY} if key else {})


def _patch(head: str, lines: list[str]) -> Spelled:
    body = "\n".join([f"*** {head}", *lines])
    return "exec_command", {"cmd": f"apply_patch <<'EOF'\n*** Begin Patch\n{body}\n*** End Patch\nEOF"}


def _added(call: Json) -> Spelled:
    return _patch(f"Add File: {call['path']}", [f"+{line}" for line in call["content"].splitlines()])


def _updated(call: Json) -> Spelled:
    return _patch(f"Update File: {call['path']}", ["@@", *call["lines"]])


def _described(tool: str) -> Callable[[Json], Spelled]:
    return lambda call: (tool, {"command": call["command"], "description": "run it"})


def _written(tool: str, path: str) -> Callable[[Json], Spelled]:
    return lambda call: (tool, {path: call["path"], "content": call["content"]})


def _edited(tool: str, path: str, old: str, new: str, **more: str) -> Callable[[Json], Spelled]:
    def spell(call: Json) -> Spelled:
        return tool, {path: call["path"], old: side(call["lines"], "-"), new: side(call["lines"], "+"), **more}

    return spell


def _change(call: Json) -> Json:
    return {"old": side(call["lines"], "-"), "new": side(call["lines"], "+")}


def side(lines: list[str], mark: str) -> str:
    """The old (`-`) or the new (`+`) text of changed lines."""
    return "".join(f"{line[1:]}\n" for line in lines if line[0] in (" ", mark))


LEGS = [
    Leg(
        runtime="claude",
        model="anthropic/claude-sonnet-4-5",
        url_env="ANTHROPIC_BASE_URL",
        key_env="ANTHROPIC_API_KEY",
        url_path="",
        offers="Bash",
        spell={
            "shell": _described("Bash"),
            "write_file": _written("Write", "file_path"),
            "edit_file": _edited("Edit", "file_path", "old_string", "new_string"),
        },
        long_requests=True,
    ),
    Leg(
        runtime="codex",
        model="openai/gpt-5.5",
        url_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        url_path="/v1",
        offers="exec_command",
        spell={
            "shell": lambda call: ("exec_command", {"cmd": call["command"]}),
            "write_file": _added,
            "edit_file": _updated,
        },
    ),
    Leg(
        runtime="gemini",
        model="google/gemini-2.5-pro",
        url_env="GOOGLE_GEMINI_BASE_URL",
        key_env="GEMINI_API_KEY",
        url_path="",
        offers="run_shell_command",
        steers=False,
        spell={
            "shell": _described("run_shell_command"),
            "write_file": _written("write_file", "file_path"),
            "edit_file": _edited("replace", "file_path", "old_string", "new_string", instruction="change a line"),
        },
    ),
    Leg(
        runtime="opencode",
        model="openai-compatible/scripted-1",
        url_env="OPENAI_BASE_URL",
        key_env="OPENAI_API_KEY",
        url_path="/v1",
        offers="bash",
        spell={
            "shell": _described("bash"),
            "write_file": _written("write", "filePath"),
            "edit_file": _edited("edit", "filePath", "oldString", "newString"),
        },
    ),
]

# The reference runtime: an image of its own, whose commands run in its sandbox.
OWN = Leg(
    runtime="minimal",
    model="openai/gpt-5.5",
    url_env="OPENAI_BASE_URL",
    key_env="OPENAI_API_KEY",
    url_path="/v1",
    offers="artifact",
    spell={
        "shell": lambda call: ("bash", {"command": call["command"]}),
        "write_file": _written("write", "path"),
        "edit_file": lambda call: ("edit", {"path": call["path"], "edits": [_change(call)]}),
    },
)
