"""Nobody who calls an agent can tell what it runs on: four runtimes, one model, the same words on the wire. [HIDE-2]"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.e2e.legs import LEGS, Leg
from tests.e2e.stage import Played, Stage, machine_paths
from tests.support import HEADERS, Frame, Json

ANSWERS = ["SCN-text", "SCN-words", "SCN-tool", "SCN-fail", "SCN-edit", "SCN-odd"]
ERRORS = ["SCN-403", "SCN-404", "SCN-429"]
SCENARIOS = [*ANSWERS, *ERRORS]


def boxed_scenarios() -> list[str]:
    """Those that are played in sandboxes and containers too: one, or where it is asked for (`make placements`) all."""
    return SCENARIOS if os.environ.get("SWITCHBOARD_EVERY_PLACEMENT") else ["SCN-edit"]


_IDS = ("id", "taskId", "contextId", "messageId", "artifactId", "call_id", "incident")
_VENDORS = re.compile(
    r"anthropic|claude|sonnet|openai|codex|gpt|google|gemini|opencode|scripted|llmock|exec_command|run_shell|toolu_|fc_|Bash\b",
    re.IGNORECASE,
)


class Plain:
    """Makes streams comparable: ids by order of appearance, no times, adjacent text joined. Everything else stays."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def stream(self, frames: list[Frame]) -> list[Any]:
        return [self.value("", result) for result in _joined([frame.result for frame in frames])]

    def value(self, key: str, value: Any) -> Any:
        match value:
            case dict():
                return {name: self.value(name, item) for name, item in value.items()}
            case list():
                return [self.value("", item) for item in value]
            case str() if key in _IDS:
                return self._ids.setdefault(value, f"<id {len(self._ids)}>")
            case str() if key == "timestamp":
                return "<time>"
            case int() if key == "duration_ms":
                return "<duration>"
            case str():
                return re.sub(r"inc_[0-9a-f]+", "<incident>", value)
        return value


def _joined(results: list[Json]) -> list[Json]:
    """Appended pieces of text joined to the piece before them."""
    joined: list[Json] = []
    for result in json.loads(json.dumps(results)):
        update = result.get("artifactUpdate", {})
        last = joined[-1].get("artifactUpdate", {}) if joined else {}
        if update.get("append") and last and not last.get("lastChunk"):
            last["artifact"]["parts"][0]["text"] += update["artifact"]["parts"][0]["text"]
        else:
            joined.append(result)
    return joined


def lines(played: Played) -> list[str]:
    """A line for each event, its keys in the order of the wire."""
    return [json.dumps(event, ensure_ascii=False) for event in Plain().stream(played.frames)]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("other", LEGS[1:], ids=lambda leg: leg.runtime)
async def test_a_stream_is_the_same_whatever_runs_underneath(stage: Stage, other: Leg, scenario: str) -> None:
    expected, found = await stage.play(LEGS[0], scenario), await stage.play(other, scenario)
    assert lines(found) == lines(expected)


@pytest.mark.parametrize("scenario", [*SCENARIOS, "SCN-par"])
async def test_no_vendor_and_no_path_of_the_machine_shows(stage: Stage, leg: Leg, scenario: str) -> None:
    played = await stage.play(leg, scenario)
    said = [json.dumps(frame.data, ensure_ascii=False) for frame in played.frames]
    assert [line for line in said if _VENDORS.search(line)] == []
    assert machine_paths([frame.data for frame in played.frames]) == []


async def test_a_task_and_its_headers_are_the_same_whatever_runs_underneath(stage: Stage) -> None:
    assert len({repr(await answer(stage, leg)) for leg in LEGS}) == 1


async def answer(stage: Stage, leg: Leg) -> tuple[Json, dict[str, str]]:
    """GetTask's answer to a turn that used a tool, and its headers but for date and length."""
    played = await stage.play(leg, "SCN-tool")
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": played.task_id}}
    async with stage.client() as client:
        answer = await client.http.post(f"{client.url}/agents/{leg.agent}", json=body, headers=HEADERS)
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    return Plain().value("", answer.json()["result"]), headers
