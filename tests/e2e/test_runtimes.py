"""What an owner does with runtimes: check them, and change the one an agent runs on under the eyes of its callers."""

from __future__ import annotations

from pathlib import Path

import anyio

from adapters.registration import profiles
from tests.e2e.legs import LEGS, Leg
from tests.e2e.model import text_of_scenario
from tests.e2e.stage import SECONDS, Stage, unique
from tests.support import Client


async def test_a_check_finds_the_cli_in_the_version_we_know(stage: Stage, leg: Leg) -> None:
    with anyio.fail_after(SECONDS):
        async with stage.client() as client:
            found = await client.owner("runtimes.check", name=leg.runtime)
    program, version, *keys = found["checks"]
    profile = profiles()[leg.runtime]
    assert (program["ok"], Path(program["result"]).name) == (True, profile.executable)
    assert (version["ok"], version["result"]) == (True, profile.known_versions)
    assert found["ok"] is all(key["ok"] for key in keys) is False  # the keys are the agents' here, not the gateway's


async def test_an_agent_changes_its_runtime_and_callers_see_nothing_of_it(stage: Stage) -> None:
    codex = next(leg for leg in LEGS if leg.runtime == "codex")
    changes = {"runtime": codex.runtime, "model": codex.model, "env": codex.env(stage.model.url)}
    fresh, pinned = unique("SCN-text"), unique("SCN-text N=2")
    async with stage.client() as client:
        old = await stage.say(client, "hello", "N=3")
        before = await public_face(client)
        changed = await client.owner("agent.update", name="hello", changes=changes)
        after = await public_face(client)
        new = await stage.say(client, "hello", fresh)
        again = await stage.say(client, "hello", pinned, contextId=old.context_id)
    assert changed["version"] == 2
    assert after == before
    assert new.text == text_of_scenario("SCN-text")
    assert len(await stage.model.requests(fresh)) == 1
    assert again.text == "Turn 2. Before this you said: N=3\nword0 word1 "
    assert await stage.model.requests(pinned, least=0) == []


async def public_face(client: Client) -> list[tuple[int, dict[str, str], bytes]]:
    """Directory and card, with their headers."""
    seen = []
    for path in ("/agents", "/agents/hello/.well-known/agent-card.json"):
        answer = await client.http.get(client.url + path)
        headers = {name: value for name, value in answer.headers.items() if name != "date"}
        seen.append((answer.status_code, headers, answer.content))
    return seen
