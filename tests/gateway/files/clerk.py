"""A runtime that runs the first paragraph of its prompt as a shell command and tells what it printed and the rest.

A line the command prints that begins with `{"type"` is said as it is. Over `specs/jsonl-protocol.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from adapters.profile import Launch, Plan, Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL

ROOT = Path(__file__).resolve().parents[3]


def launch(plan: Plan) -> Launch:
    return Launch(argv=(sys.executable, str(Path(__file__).resolve())), env={"PYTHONPATH": str(ROOT)}, keep_stdin=True)


CLERK: Profile = replace(REHEARSAL, name="clerk", modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=launch)})
RUNTIMES = {"rehearsal": REHEARSAL, "clerk": CLERK}


def main() -> None:
    for line in sys.stdin:
        command, _, rest = json.loads(line)["prompt"].partition("\n\n")
        printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        for said in printed.stdout.splitlines(keepends=True):
            print(said.strip() if said.startswith('{"type"') else json.dumps({"type": "chunk", "text": said}), flush=True)
        for text in filter(None, (rest, printed.stderr)):
            print(json.dumps({"type": "chunk", "text": text}), flush=True)
        print(json.dumps({"type": "done", "yield_reason": "completed"}), flush=True)


if __name__ == "__main__":
    main()
