"""A runtime that answers with what it was told: its whole `turn` line as a data part (`specs/jsonl-protocol.md`)."""

from __future__ import annotations

import sys
from dataclasses import replace

from adapters.profile import Launch, Plan, Profile
from tests.gateway.turns.parrot import PARROT
from tests.support import Json

CODE = """
import json, sys
turn = json.loads(sys.stdin.readline())
print(json.dumps({"type": "artifact", "name": "told", "parts": [{"data": turn}]}))
print(json.dumps({"type": "done", "yield_reason": "completed"}), flush=True)
"""


def launch(plan: Plan) -> Launch:
    return Launch(argv=(sys.executable, "-I", "-c", CODE), keep_stdin=True)


_MODE = replace(PARROT.modes["jsonl"], launch=launch)
_PLAIN = replace(_MODE, capabilities=replace(_MODE.capabilities, structured=False))
TELLER: Profile = replace(PARROT, name="teller", modes={"jsonl": _MODE})
PLAIN_TELLER: Profile = replace(PARROT, name="plain", modes={"jsonl": _PLAIN})  # is told all it is to know in its prompt


def told(task: Json) -> Json:
    """The `turn` line the runtime of a task got."""
    data: Json = task["artifacts"][0]["parts"][0]["data"]
    return data
