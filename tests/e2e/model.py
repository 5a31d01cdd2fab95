"""The scripted model: one llmock for all four CLIs, told the scenarios in each vendor's own words.

`scenarios.json` says once what the model says, by a marker in the prompt. A step's tools are spelt as each leg's CLI
wants them, so that the same turn is played four times.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2

from tests.e2e.legs import KEY, LEGS, OWN, Json, Leg
from tests.support import free_port

SCENARIOS: dict[str, Json] = json.loads(Path(__file__).with_name("scenarios.json").read_text("utf-8"))


def text_of_scenario(name: str) -> str:
    """All the model says in a scenario."""
    return "".join(step.get("text", "") for step in SCENARIOS[name]["steps"])


def fixtures(scenarios: Mapping[str, Json]) -> Iterator[Json]:
    for name, scenario in scenarios.items():
        if "error" in scenario:
            yield {"match": {"userMessage": name}, "response": scenario}
            continue
        for leg in [OWN, *LEGS]:  # it offers what others offer, too
            if "added" in scenario:
                yield from _added(name, scenario["added"], leg)
                continue
            yield from _steps(name, scenario, leg)


def _steps(name: str, scenario: Json, leg: Leg) -> Iterator[Json]:
    """A step is known by what came before it: how much the model has said, and whether a tool has answered.

    `later` is what the model says instead of the first step when it has spoken before: in an earlier turn.
    """
    steps = scenario["steps"]
    told = [(number, number > 0, step) for number, step in enumerate(steps)]
    if "later" in scenario:
        told.append((1, False, scenario["later"]))
    for number, has_result, step in told:
        match = {"userMessage": name, "toolName": leg.offers, "hasToolResult": has_result}
        if scenario.get("any_result"):  # whatever a CLI made of a call that was cut off
            del match["hasToolResult"]
        if len(steps) > 2 or "later" in scenario:
            match["turnIndex"] = number
        response: Json = {"content": step["text"]} if "text" in step else {}
        if calls := step.get("calls"):
            response["toolCalls"] = [_call(leg, call) for call in calls]
        yield {"match": match, "response": response, **scenario.get("pace", {})}


def _added(name: str, text: str, leg: Leg) -> Iterator[Json]:
    """What the model says to a message that may have come in mid-turn: some CLIs put it behind a tool's result."""
    for place in ("userMessage", "toolResultContains"):
        yield {"match": {place: name, "toolName": leg.offers}, "response": {"content": text}}


def _call(leg: Leg, call: Json) -> Json:
    name, arguments = leg.spell[call["tool"]](call)
    return {"name": name, "arguments": arguments}


@dataclass
class Model:
    """The running server."""

    url: str

    async def learn(self, name: str, call: Json) -> str:
        """One more scenario, which makes one call. Answers its marker."""
        marker = f"{name}-{uuid.uuid4().hex}"
        scenario = {"steps": [{"calls": [call]}, {"text": "Done."}]}
        await self.add(list(fixtures({marker: scenario})))
        return marker

    async def add(self, steps: list[Json]) -> None:
        """Steps as the server itself wants them."""
        await self._control("POST", "fixtures", json={"fixtures": steps})

    async def requests(self, marker: str, *, least: int = 1) -> list[str]:
        """Every request (its body, as text) in which `marker` stands, in order; waits for the `least` there will be.

        The server notes a request when its answer is out: a turn may have ended before that. It keeps no body over
        64 KiB, so some CLIs' requests are never found.
        """
        with anyio.fail_after(10):
            while True:
                entries: list[Any] = (await self._control("GET", "journal")).json()
                bodies = [json.dumps(entry["body"], ensure_ascii=False) for entry in entries]
                found = [body for body in bodies if marker in body]
                if len(found) >= least:
                    return found
                await anyio.sleep(0.05)

    async def _control(self, method: str, path: str, **more: Any) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=20, headers={"Authorization": f"Bearer {KEY}"}) as http:
            return (await http.request(method, f"{self.url}/__aimock/{path}", **more)).raise_for_status()


def served(program: Path, folder: Path) -> Iterator[Model]:
    """Only requests with the right key are answered: a 401 for everybody else."""
    script = folder / "fixtures.json"
    script.write_text(json.dumps({"fixtures": list(fixtures(SCENARIOS))}), "utf-8")
    port = free_port()
    argv = [str(program), "-p", str(port), "-f", str(script), "--log-level", "warn"]
    with (folder / "model.log").open("wb") as log:
        process = subprocess.Popen(argv, env={**os.environ, "AIMOCK_API_KEYS": KEY}, stdout=log, stderr=log)
    try:
        _until_it_answers(f"http://127.0.0.1:{port}", process)
        yield Model(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(10)


def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx2.get(f"{url}/health", timeout=2).raise_for_status()
            return
        except httpx2.HTTPError:
            time.sleep(0.05)
    raise AssertionError("the scripted model did not start")
