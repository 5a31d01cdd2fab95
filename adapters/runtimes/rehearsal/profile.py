"""The rehearsal runtime: no model, no key, no network. For first contact, for tests, and to copy from."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.jsonl import JsonLinesDialogue, recorded_turn
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile

SCRIPT = str(Path(__file__).with_name("script.py"))


def launch(plan: Plan) -> Launch:
    argv = (plan.executable or sys.executable, "-I", SCRIPT)
    return Launch(argv=argv, sees=(SCRIPT, sys.base_prefix), keep_stdin=True)


PROFILE = Profile(
    name="rehearsal",
    title="Rehearsal (no model)",
    executable=sys.executable,
    providers=frozenset(),
    modes={
        "jsonl": Mode(
            name="jsonl",
            dialogue=JsonLinesDialogue,
            launch=launch,
            capabilities=Capabilities(deltas=True, resume=True, steer=True, interrupt=True, structured=True),
            recorded_turn=recorded_turn,
        )
    },
    default_mode="jsonl",
)
