"""Any agent that speaks the Agent Client Protocol on stdio, started by a command line the owner gives.

The agent chooses its own model provider, so no key reaches it by itself: what it needs stands in the agent's
environment, which the owner sets, and arrives here as `plan.env`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.acp import AcpDialogue, recorded_load
from adapters.dialogue import Turn
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile


def _launch(plan: Plan) -> Launch:
    return Launch(argv=plan.command, env=plan.env, keep_stdin=True)


def _recorded_turn(meta: Mapping[str, Any]) -> Turn:
    return Turn(prompt="", native_session=recorded_load(meta))


PROFILE = Profile(
    name="acp",
    title="ACP agent",
    executable="",
    providers=frozenset(),
    modes={
        "acp": Mode(
            name="acp",
            dialogue=AcpDialogue,
            launch=_launch,
            capabilities=Capabilities(deltas=True, resume=True, steer=False, interrupt=True, mcp=True),
            recorded_turn=_recorded_turn,
        )
    },
    default_mode="acp",
    install_hint="give the command line that starts the agent",
    takes_command=True,
)
