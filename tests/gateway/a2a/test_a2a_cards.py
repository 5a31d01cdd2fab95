"""Cards and the directory: what the world may know of an agent, and of which agents it may know at all."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import ANY

import anyio

from gateway.a2a.cards import agent_url
from gateway.a2a.extension import TOOL_EVENTS
from gateway.settings import Settings
from tests.gateway.turns.calls import make_agent
from tests.gateway.turns.parrot import RUNTIMES
from tests.support import HEADERS, message, serving

CARD = ".well-known/agent-card.json"
SKILL = {"id": "mail", "name": "Mail", "description": "Writes letters.", "tags": ["mail"], "examples": ["Write to Bo"]}


async def test_a_card_tells_how_to_talk_to_the_agent(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "mailer", "rehearsal", description="Writes letters.", skills=[SKILL])
            card = (await gateway.http.get(f"{gateway.url}/agents/mailer/{CARD}")).json()
    assert card == {
        "name": "mailer",
        "description": "Writes letters.",
        "version": "1",
        "supportedInterfaces": [
            {"url": f"{gateway.url}/agents/mailer", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extensions": [{"uri": TOOL_EVENTS, "description": ANY, "required": False}],
            "extendedAgentCard": False,
        },
        "defaultInputModes": ["text/plain", "application/json"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [SKILL],
    }


def test_cards_tell_the_public_origin(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, public_url="https://agents.example.com/")
    assert agent_url("mailer", settings.url) == "https://agents.example.com/agents/mailer"


async def test_a_card_that_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            url = f"{gateway.url}/agents/hello/{CARD}"
            first = await gateway.http.get(url)
            again = await gateway.http.get(url, headers={"If-None-Match": first.headers["etag"]})
            stale = await gateway.http.get(url, headers={"If-None-Match": '"other"'})
            head = await gateway.http.head(url)
            await gateway.owner("agent.update", name="hello", changes={"description": "Changed."})
            changed = await gateway.http.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"] == stale.headers["etag"] == head.headers["etag"]
    assert stale.content == first.content
    assert (head.status_code, head.content) == (200, b"")
    assert "last-modified" in first.headers
    assert (changed.status_code, changed.json()["description"]) == (200, "Changed.")
    assert changed.headers["etag"] != first.headers["etag"]


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


async def test_the_directory_lists_public_agents(tmp_path: Path) -> None:
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "mailer", "rehearsal", description="Writes letters.", skills=[SKILL])
            await make_agent(gateway, "hidden", "rehearsal", public=False)
            await gateway.owner("agent.delete", name="hello")
            found = (await gateway.http.get(f"{gateway.url}/agents")).json()
    url = f"{gateway.url}/agents/mailer"
    entry = {"name": "mailer", "description": "Writes letters.", "url": url, "cardUrl": f"{url}/{CARD}", "skills": ["Mail"]}
    assert found == {"agents": [entry]}


async def test_a_hidden_agent_answers_as_one_that_does_not_exist(tmp_path: Path) -> None:
    """[INV-7]"""
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("N=1")}}
    async with serving(tmp_path, RUNTIMES) as gateway:
        with anyio.fail_after(20):
            await make_agent(gateway, "hidden", "rehearsal", public=False)
            told = []
            for name in ("hidden", "nobody"):
                card = await gateway.http.get(f"{gateway.url}/agents/{name}/{CARD}")
                call = await gateway.http.post(f"{gateway.url}/agents/{name}", json=body, headers=HEADERS)
                assert (card.status_code, call.status_code) == (404, 404)
                assert call.json()["error"]["code"] == -32001
                told.append((card.text.replace(name, "?"), call.text.replace(name, "?")))
    assert told[0] == told[1]


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
