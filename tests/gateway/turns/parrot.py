"""A runtime that prints what the prompt tells it to, over `specs/jsonl-protocol.md`: for what no sane runtime does.

The prompt is a JSON list. A string is printed as it is, an object as JSON, and these are acts:
["wait", "name"] until a file of that name is in the workspace, ["touch", "name"] makes it, ["exit", 3], ["kill"] itself,
["sleep"] for ever, deaf to everything,
["take"] the next message that comes meanwhile, saying so and what it was, ["hear"] it without saying that it was taken,
["asked"] tells what it was asked behind its list,
["once", [...]] acts that are done in the session's first attempt only,
["where"] tells in text, a tool's input and its output where the parrot finds itself. Told to go on it does it all again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.profile import Launch, Plan, Profile
from adapters.runtimes.rehearsal.profile import PROFILE as REHEARSAL

ROOT = Path(__file__).resolve().parents[3]


def launch(plan: Plan) -> Launch:
    return Launch(argv=(sys.executable, str(Path(__file__).resolve())), env={"PYTHONPATH": str(ROOT)}, keep_stdin=True)


PARROT: Profile = replace(REHEARSAL, name="parrot", modes={"jsonl": replace(REHEARSAL.modes["jsonl"], launch=launch)})
RUNTIMES = {"rehearsal": REHEARSAL, "parrot": PARROT}
DONE = {"type": "done", "yield_reason": "completed"}


def say(*lines: Any) -> str:
    """The prompt that makes the parrot print these lines."""
    return json.dumps(lines)


def chunk(text: str) -> dict[str, str]:
    return {"type": "chunk", "text": text}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "turn":
            Path("asked").write_text(message["prompt"], "utf-8")
            for said in acts_of(message["prompt"]):
                perform(said)


def acts_of(prompt: str) -> list[Any]:
    """The list a prompt begins with; messages that joined it follow."""
    kept = Path.home() / "prompt"
    if "Go on where you stopped" in prompt:
        prompt = kept.read_text("utf-8")
    kept.write_text(prompt, "utf-8")
    acts: list[Any] = json.JSONDecoder().raw_decode(prompt)[0]
    return acts


def perform(said: Any) -> None:
    match said:
        case ["wait", name]:
            while not os.path.exists(name):
                time.sleep(0.01)
        case ["touch", name]:
            Path(name).touch()
        case ["once", acts]:
            if not os.path.exists("once"):
                Path("once").touch()
                for act in acts:
                    perform(act)
        case ["asked"]:
            perform({"type": "chunk", "text": Path("asked").read_text("utf-8").rpartition("]")[2]})
        case ["take"]:
            message = json.loads(sys.stdin.readline())
            perform({"type": "steered", "id": message["id"]})
            perform({"type": "chunk", "text": message["text"]})
        case ["hear"]:
            perform({"type": "chunk", "text": json.loads(sys.stdin.readline())["type"]})
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit", code]:
            os._exit(code)
        case ["where"]:
            tell(f"{os.getcwd()} {os.environ['HOME']} {os.path.dirname(os.getcwd())}/x {os.environ['TMPDIR']}")
        case ["sleep"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        case _:
            print(said if isinstance(said, str) else json.dumps(said), flush=True)


def tell(text: str) -> None:
    perform({"type": "tool_start", "call_id": "1", "tool": "mcp:a/b", "input": {text: [text]}})
    perform({"type": "tool_result", "call_id": "1", "output": text})
    perform({"type": "artifact", "name": text, "parts": [{"text": text}, {"data": {text: text}}]})
    for piece in (text[:9], text[9:30], *text[30:]):
        perform({"type": "chunk", "text": piece})
    perform({"type": "ask", "question": text})


if __name__ == "__main__":
    main()
