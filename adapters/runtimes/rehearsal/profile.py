"""The rehearsal runtime: no model, no key, no network. For first contact, for tests, and to copy from."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.jsonl import JsonLinesDialogue, of_script, recorded_turn
from adapters.profile import Capabilities, Mode, Profile

SCRIPT = Path(__file__).with_name("script.py")

PROFILE = Profile(
    name="rehearsal",
    title="Rehearsal (no model)",
    executable=sys.executable,
    providers=frozenset(),
    modes={
        "jsonl": Mode(
            name="jsonl",
            dialogue=JsonLinesDialogue,
            launch=of_script(SCRIPT),
            capabilities=Capabilities(deltas=True, resume=True, steer=True, interrupt=True, structured=True),
            recorded_turn=recorded_turn,
        )
    },
    default_mode="jsonl",
)
