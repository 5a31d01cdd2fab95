"""The sandbox of the scenes, in place of a container: by HTTP and by MCP alike, a call is done once for its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.conformance.watch import Seen
from gateway.errors import CallReused, InvalidParams
from gateway.hands.service import Brain
from gateway.hands.tools import Bash, Input, Result, input_of, wrong
from gateway.runtime_api import brain as images


@dataclass
class Sandbox:
    """Its commands print what they are told to echo. `scene`: by session. What it does is written down in the scene."""

    scene: Callable[[str], Seen]
    _done: dict[tuple[str, str], tuple[str, Input]] = field(default_factory=dict)  # (turn, call_id) -> what was asked

    async def call(self, brain: Brain, call_id: str, tool: str, given: Any) -> Result:
        """Raises CallReused, and Conflict where the attempt is over."""
        assert isinstance(brain, images.Brain)
        brain.check()
        try:
            asked = (tool, input_of(tool, given))
        except InvalidParams as exc:
            return wrong(f"{exc.message} {exc.hint}")
        key = (brain.turn.id, call_id)
        if self._done.setdefault(key, asked) != asked:
            raise CallReused(f"The call_id {call_id!r} was used for another call.", "Give each call an id of its own.")
        effects = self.scene(brain.turn.session_id).effects
        if call_id not in effects:
            effects[call_id] = _effect(*asked)
        return Result(_output(*asked), exit_code=0 if tool == "bash" else None)

    def cancel(self, turn_id: str, call_id: str) -> None:
        """Nothing takes long here."""


def _effect(tool: str, asked: Input) -> str:
    return asked.command if isinstance(asked, Bash) else f"{tool} {asked.model_dump_json()}"


def _output(tool: str, asked: Input) -> str:
    return f"{asked.command.removeprefix('echo ')}\n" if isinstance(asked, Bash) else "done"
