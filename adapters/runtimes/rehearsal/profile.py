"""The rehearsal runtime: no model, no key, no network. For first contact, for tests, and to copy from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapters.dialogue import Turn
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile
from adapters.runtimes.rehearsal.dialogue import RehearsalDialogue

SCRIPT = str(Path(__file__).with_name("script.py"))


def launch(plan: Plan) -> Launch:
    argv = (plan.executable or sys.executable, "-I", SCRIPT)
    return Launch(argv=argv, sees=(SCRIPT, sys.base_prefix), keep_stdin=True)


def recorded_turn(meta: Mapping[str, Any]) -> Turn:
    return Turn(prompt="", workspace=meta.get("cwd", "/workspace"))


PROFILE = Profile(
    name="rehearsal",
    title="Rehearsal (no model)",
    executable=sys.executable,
    providers=frozenset(),
    modes={
        "jsonl": Mode(
            name="jsonl",
            dialogue=RehearsalDialogue,
            launch=launch,
            capabilities=Capabilities(deltas=True, resume=True, steer=True, interrupt=True),
            recorded_turn=recorded_turn,
        )
    },
    default_mode="jsonl",
)
