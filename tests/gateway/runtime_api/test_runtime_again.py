"""An image that dies begins again, in its journal, and appends nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.runtime_api.stand_in import Played, chunk, thinking

Json = dict[str, Any]


async def test_a_crash_begins_again_and_what_was_appended_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """[RUN-4]"""
    attempts: list[Json] = []
    clients: list[Played] = []

    async def play(image: Played) -> int:
        turn = await image.get("turn")
        attempts.append({"attempt": turn["attempt"], "prompt": turn["prompt"], "env": image.env["ATTEMPT"]})
        attempts[-1]["first"] = await image.post(chunk("1", "a"), {"id": "q", "type": "ask", "question": "Which?"})
        if turn["attempt"] == 1:
            clients.append(image)
            return 3
        old = await image.http.post(
            "/runtime/v1/events",
            json={"events": [chunk("9", "stale")]},
            headers={"Authorization": f"Bearer {clients[0].env['TURN_TOKEN']}"},
        )
        attempts[-1]["old"] = (old.status_code, old.json()["code"])
        await image.post(chunk("1", "a"), chunk("2", "b"))
        return 0

    async with thinking(tmp_path, monkeypatch, play, turn_backoff_seconds=0.01) as gateway:
        task = await gateway.send("thinker", "Hello")
        events = await gateway.events(task["contextId"])
    first, second = attempts
    assert (first["attempt"], second["attempt"], second["env"]) == (1, 2, "2")
    assert first["prompt"] == second["prompt"] == "Hello"
    assert (second["first"]["accepted"], second["first"]["duplicates"]) == (0, 2)
    assert second["old"] == (409, "turn_superseded")
    assert "".join(event["body"]["text"] for event in events if event["type"] == "chunk") == "ab"
    assert [event["type"] for event in events].count("ask") == 1
    assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"  # it asked in its first attempt


@pytest.mark.parametrize(("comes", "category"), [(True, "runtime_crash"), (False, "startup_crash")])
async def test_an_image_that_dies_fails_by_whether_it_ever_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bool, category: str
) -> None:

    async def play(image: Played) -> int:
        if comes:
            await image.get("turn")
        return 1

    async with thinking(tmp_path, monkeypatch, play, turn_backoff_seconds=0.01) as gateway:
        task = await gateway.send("thinker", "Hello")
        events = await gateway.events(task["contextId"])
    assert task["status"]["state"] == "TASK_STATE_FAILED"
    assert events[-1]["body"]["error"]["category"] == category
    assert any("exit code 1" in event["body"].get("text", "") for event in events if event["type"] == "error_detail")
