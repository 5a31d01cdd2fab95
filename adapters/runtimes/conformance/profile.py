"""The conformance runtime, for tests only: the agent that public conformance kits for A2A are pointed at."""

from __future__ import annotations

import sys
from pathlib import Path

from adapters.jsonl import JsonLinesDialogue, of_script, recorded_turn
from adapters.profile import Capabilities, Mode, Profile

PROFILE = Profile(
    name="conformance",
    title="Conformance agent (tests only)",
    executable=sys.executable,
    providers=frozenset(),
    modes={
        "jsonl": Mode(
            name="jsonl",
            dialogue=JsonLinesDialogue,
            launch=of_script(Path(__file__).with_name("script.py")),
            capabilities=Capabilities(interrupt=True, structured=True, direct=True),
            recorded_turn=recorded_turn,
        )
    },
    default_mode="jsonl",
)
