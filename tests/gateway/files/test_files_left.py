"""Files of a turn whose gateway was killed, or whose runtime died, before they were told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.gateway.files.desk import artifacts, desk, say, workspace
from tests.gateway.files.test_files_out import OUT
from tests.gateway.turns.calls import state_of
from tests.support import gateway_process, streamed_text


@pytest.mark.parametrize(("attempts", "ends"), [("1", "FAILED"), ("2", "COMPLETED")], ids=["ended", "goes on"])
async def test_files_of_a_turn_whose_gateway_was_killed_are_delivered_once(tmp_path: Path, attempts: str, ends: str) -> None:
    """[FILE-9] By the next attempt, or by who ends it."""
    with gateway_process(tmp_path, {"SWITCHBOARD_TURN_ATTEMPTS": attempts}) as gateway, anyio.fail_after(60):
        client = gateway.client()
        await client.owner("agent.create", name="mine", runtime="rehearsal")
        first = await client.send("mine", "N=1")
        outbox = tmp_path / "sessions" / first["contextId"] / "work" / "outbox"
        outbox.mkdir()
        (outbox / "old.txt").write_text("old")
        seen = []
        async for frame in client.stream("mine", "N=20 D=50000", contextId=first["contextId"]):
            seen.append(frame)
            if streamed_text(seen):
                break
        task = seen[0].result["task"]
        (outbox / "new.txt").write_text("new")
        gateway.kill()
        gateway.start()
        while state_of(found := await client.get("mine", task["id"])) in ("SUBMITTED", "WORKING"):
            await client.http.get(f"{client.url}/health")
        log = await client.events(first["contextId"])
        later = await client.send("mine", "N=1", contextId=first["contextId"])
        await client.http.aclose()
    assert state_of(found) == ends
    assert artifacts(found) == {"new.txt": [{"text": "new", "filename": "new.txt", "mediaType": "text/plain"}]}
    assert Counter(event["body"]["name"] for event in log if event["type"] == "artifact") == {"new.txt": 1}
    assert artifacts(later) == {}


@pytest.mark.usefixtures("database_url")
async def test_files_of_an_attempt_whose_runtime_died_are_delivered_by_the_next(tmp_path: Path) -> None:
    """[FILE-9]"""
    once = f"test -e once || {{ touch once; {OUT} echo new > new.txt; kill -9 $PPID; }}"
    with anyio.fail_after(30):
        async with desk(tmp_path, turn_backoff_seconds=0.01) as gateway:
            first = await say(gateway, OUT + "echo old > old.txt")
            task = await say(gateway, once, contextId=first["contextId"])
    assert state_of(task) == "COMPLETED"
    assert artifacts(task) == {"new.txt": [{"text": "new\n", "filename": "new.txt", "mediaType": "text/plain"}]}


async def test_what_an_agent_puts_in_place_of_what_is_remembered_breaks_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with desk(tmp_path, turn_backoff_seconds=0.01) as gateway:
            first = await say(gateway, OUT + "echo old > old.txt")
            kept = workspace(tmp_path, first).parent / "outbox.json"
            assert kept.is_file()
            for trap in (
                f"ln -sf /etc/passwd {kept}",
                f"rm {kept}; mkfifo {kept}",
                f"rm {kept}; mkdir {kept}",
                f"echo no > {kept}",
            ):
                dies = f"if test -e once; then rm once; else touch once; {trap}; kill -9 $PPID; fi"
                task = await say(gateway, dies, contextId=first["contextId"])
                assert (state_of(task), artifacts(task)) == ("COMPLETED", {})
