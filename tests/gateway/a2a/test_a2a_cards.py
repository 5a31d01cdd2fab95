"""Of which agents the world may know at all, and that a change of what is private shows nowhere."""

from __future__ import annotations

from pathlib import Path

import anyio

from tests.gateway.turns.calls import make_agent
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import serving

CARD = ".well-known/agent-card.json"


async def test_a_change_of_the_runtime_changes_no_byte_of_the_card(tmp_path: Path) -> None:
    """[HIDE-3]"""
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            url = f"{gateway.url}/agents/hello/{CARD}"
            before = await gateway.http.get(url)
            await gateway.owner("agent.update", name="hello", changes={"runtime": "parrot", "prompt": "Be a parrot."})
            after = await gateway.http.get(url)
    told = [{name: answer.headers[name] for name in answer.headers if name != "date"} for answer in (before, after)]
    assert (before.content, told[0]) == (after.content, told[1])


async def test_an_agent_that_was_deleted_is_gone_and_a_new_one_of_its_name_knows_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=1")
            await gateway.owner("agent.delete", name="hello")
            gone = await gateway.http.get(f"{gateway.url}/agents/hello/{CARD}")
            await make_agent(gateway, "hello", "rehearsal")
            answer = await gateway.rpc("hello", "GetTask", {"id": task["id"]})
    assert gone.status_code == 404
    assert answer["error"]["code"] == -32001
