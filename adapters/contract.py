"""An image that meets the contract for custom runtimes (specs/runtime-contract.md), as a profile made of what was registered.

What the image posts to the runtime API comes in as lines of the JSON-lines protocol. Three lines are the API's own:

    {"type": "alive"}                      the image has asked for something, or beats
    {"type": "asked"}                      a question it repeats was appended in an earlier attempt
    {"type": "printed", "stream", "text"}  what it printed, for the owner
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from adapters import events as ev
from adapters.dialogue import Exit, Failure, Step, Turn, json_line, relative_path
from adapters.endpoints import ANTHROPIC, GOOGLE, OPENAI
from adapters.events import Event
from adapters.jsonl import JsonLinesDialogue, recorded_turn, text
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile

MODE = "contract"
WORKSPACE, HOME = "/workspace", re.compile(r"/home/agent(?![\w.-])")  # of the sandbox, where its commands run
ENDPOINTS = {"anthropic": ANTHROPIC, "openai": OPENAI, "google": GOOGLE, "openai-compatible": OPENAI}  # providers it may name


def profile(
    name: str,
    image: str,
    *,
    providers: Collection[str] = (),
    steer: bool = False,
    mcp: bool = False,
    wants: Sequence[str] = (),
    title: str = "",
) -> Profile:
    """`image` is what the engine knows it by for good: a digest."""
    endpoints = {provider: ENDPOINTS[provider] for provider in providers if provider in ENDPOINTS}
    can = Capabilities(deltas=True, steer=steer, interrupt=True, mcp=mcp, structured=True, replays=True)
    return Profile(
        name=name,
        title=title or name,
        executable="",
        providers=frozenset(providers),
        modes={MODE: Mode(MODE, partial(ContractDialogue, mcp=mcp), partial(_launch, image), can, recorded_turn)},
        default_mode=MODE,
        key_env={provider: endpoint.credentials[0].env for provider, endpoint in endpoints.items()},
        endpoints=endpoints,
        image=image,
        wants=tuple(wants),
    )


def _launch(image: str, plan: Plan) -> Launch:
    model = f"{plan.provider}/{plan.turn.model}" if plan.provider and plan.turn.model else ""
    return Launch(argv=(), env={"MODEL": model}, keep_stdin=True, image=image)


class ContractDialogue(JsonLinesDialogue):
    def __init__(self, new_id: Callable[[], str], *, mcp: bool = False) -> None:
        super().__init__(new_id)
        self._mcp = mcp

    def on_start(self, turn: Turn) -> list[bytes]:
        super().on_start(turn)
        self._came = self._asks = False
        line = {
            "type": "turn",
            "prompt": turn.prompt,
            "parts": [dict(part) for part in turn.parts] or [{"text": turn.prompt}],
            "message_id": turn.message_id or None,
            "metadata": dict(turn.metadata),
            "references": [dict(reference) for reference in turn.references],
            "system_prompt": turn.system_prompt,
            "model": turn.model,
            "mcp_servers": [dict(server) for server in turn.mcp_servers if self._mcp],
        }
        return [json_line(line)]

    def relative(self, value: Any) -> Any:
        return HOME.sub("~", relative_path(value, WORKSPACE)) if isinstance(value, str) else super().relative(value)

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        self._came = self._came or message["type"] != "printed"
        return super().on_message(message, line)

    def read(self, message: dict[str, Any]) -> list[Event] | None:
        match message["type"]:
            case "alive":
                return []
            case "printed":
                return [ev.notice(text(message, "stream"), text(message, "text"))]
            case "asked":
                self._asks = True
                return []
            case "ask":
                self._asks = True
        return super().read(message)

    def close_tool(self, message: dict[str, Any]) -> list[Event]:
        """A call that was closed already, when an attempt died, say, tells the rest to the owner."""
        if self.is_open(text(message, "call_id")):
            return super().close_tool(message)
        return [self.keep(json_line(message), "no such tool call is open")]

    def on_exit(self, exit: Exit) -> list[Event]:
        if exit.code == 0 and not self.interrupted:
            return self.end("needs_input" if self._asks else "completed")
        return super().on_exit(exit)

    def failure_of_exit(self, exit: Exit) -> Failure:
        found = super().failure_of_exit(exit)
        return Failure("runtime_crash" if self._came else "startup_crash", found.text)
