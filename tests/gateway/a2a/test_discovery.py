"""How callers find agents: the directory, the catalogue, the agent at the root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import Client, serving

Json = dict[str, Any]


async def directory(gateway: Client, **query: Any) -> Json:
    answer = await gateway.http.get(f"{gateway.url}/agents", params=query)
    assert answer.status_code == 200
    found: Json = answer.json()
    return found


async def names(gateway: Client, **query: Any) -> list[str]:
    return [agent["name"] for agent in (await directory(gateway, **query))["agents"]]


async def make(gateway: Client, *names: str, **fields: Any) -> None:
    for name in names:
        await gateway.owner("agent.create", name=name, runtime="rehearsal", **fields)


async def test_the_directory_tells_public_agents_by_name(tmp_path: Path) -> None:
    """[DISC-2]"""
    skill = {"id": "mail", "name": "Mail", "tags": ["mail"]}
    async with serving(tmp_path) as gateway:
        await make(gateway, "zed", description="Z.", skills=[skill], tags=["office"])
        await make(gateway, "hidden", public=False)
        found = await directory(gateway)
    url = f"{gateway.url}/agents"
    hello = {"name": "hello", "description": "A first agent to talk to.", "skills": ["Chat"], "tags": ["chat"]}
    zed = {"name": "zed", "description": "Z.", "skills": ["Mail"], "tags": ["mail", "office"]}
    agents = [
        {**agent, "url": f"{url}/{agent['name']}", "cardUrl": f"{url}/{agent['name']}/.well-known/agent-card.json"}
        for agent in (hello, zed)
    ]
    assert found == {"agents": agents, "nextPageToken": ""}


async def test_a_search_finds_what_the_card_shows(tmp_path: Path) -> None:
    """[DISC-2]"""
    skill = {"id": "brief", "name": "Übersetzen", "description": "Translates letters", "tags": ["Sprache"]}
    async with serving(tmp_path) as gateway:
        await make(gateway, "mailer", description="Writes MAILS, briefly.", tags=["Office", "mail"])
        await make(gateway, "dolmetsch", skills=[skill], prompt="secretly a pirate")
        await make(gateway, "hidden", description="Writes mails.", public=False)
        searches: list[tuple[Json, list[str]]] = [
            ({"q": "mails"}, ["mailer"]),
            ({"q": "BRIEF"}, ["dolmetsch", "mailer"]),
            ({"q": "brief office"}, ["mailer"]),
            ({"q": "übersetzen"}, ["dolmetsch"]),
            ({"q": "letters sprache"}, ["dolmetsch"]),
            ({"q": "mailer"}, ["mailer"]),
            ({"q": "mai%r"}, []),
            ({"q": "pirate"}, []),
            ({"q": "rehearsal"}, []),
            ({"tag": "OFFICE"}, ["mailer"]),
            ({"tag": "off"}, []),
            ({"tag": ["office", "mail"]}, ["mailer"]),
            ({"tag": ["office", "sprache"]}, []),
            ({"tag": "chat"}, ["hello", "mailer"]),
            ({"tag": "mail", "q": "pirate"}, []),
            ({"q": "", "tag": ""}, ["dolmetsch", "hello", "mailer"]),
        ]
        for query, expected in searches:
            assert await names(gateway, **query) == expected, query


async def test_pages_tell_every_agent_that_stays_exactly_once(tmp_path: Path) -> None:
    """[DISC-1] Agents come and go between the pages, before and after the place the reader is at."""
    staying = [f"agent-{n:02}" for n in range(0, 24, 2)]
    async with serving(tmp_path) as gateway:
        await gateway.owner("agent.delete", name="hello")
        await make(gateway, *staying, "agent-03", "agent-19", tags=["many"])
        for query in ({}, {"tag": "many"}):
            told: list[str] = []
            token, sizes = "", []
            while not sizes or token:
                page = await directory(gateway, pageSize=5, pageToken=token, **query)
                token, found = page["nextPageToken"], [agent["name"] for agent in page["agents"]]
                told += found
                if not sizes:
                    for name in (found[-1], "agent-19"):
                        await gateway.owner("agent.delete", name=name)
                    await make(gateway, "agent-01", "agent-11", tags=["many"])
                sizes.append(len(found))
            assert sizes[0] == 5
            assert [name for name in told if name in staying] == staying
            assert len(told) == len(set(told))
            await gateway.owner("agent.delete", name="agent-01")
            await gateway.owner("agent.delete", name="agent-11")
            gone = [name for name in (*staying, "agent-03", "agent-19") if name not in await names(gateway, pageSize=100)]
            await make(gateway, *gone, tags=["many"])


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("pageSize=0", "'0'"),
        ("pageSize=101", "'101'"),
        ("pageSize=ten", "'ten'"),
        ("pageSize=-1", "'-1'"),
        ("pageSize=%D9%A3", "pageSize"),
        ("pageToken=%21%21", "'!!'"),
        ("pageToken=_w", "'_w'"),
        ("q=" + "x" * 201, "200"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(tmp_path: Path, query: str, word: str) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.http.get(f"{gateway.url}/agents?{query}")
    assert (answer.status_code, set(answer.json())) == (400, {"code", "message", "hint"})
    assert answer.json()["code"] == "invalid_params"
    assert word in answer.json()["message"]


async def test_the_directory_can_be_asked_whether_it_has_changed(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        first = await gateway.http.get(f"{gateway.url}/agents")
        tag = {"If-None-Match": first.headers["etag"]}
        assert (await gateway.http.get(f"{gateway.url}/agents", headers=tag)).status_code == 304
        await make(gateway, "zed")
        assert (await gateway.http.get(f"{gateway.url}/agents", headers=tag)).status_code == 200


async def test_the_catalogue_links_every_public_agent_to_its_card(tmp_path: Path) -> None:
    """[DISC-2] RFC 9727."""
    async with serving(tmp_path) as gateway:
        await make(gateway, "zed", documentation_url="https://example.com/zed")
        await make(gateway, "hidden", public=False)
        answer = await gateway.http.get(f"{gateway.url}/.well-known/api-catalog")
    catalog, agents = f"{gateway.url}/.well-known/api-catalog", f"{gateway.url}/agents"

    def card(name: str) -> list[Json]:
        return [{"href": f"{agents}/{name}/.well-known/agent-card.json", "type": "application/json"}]

    assert answer.headers["content-type"] == 'application/linkset+json; profile="https://www.rfc-editor.org/info/rfc9727"'
    assert answer.headers["link"] == f'<{catalog}>; rel="api-catalog"'
    assert answer.json() == {
        "linkset": [
            {"anchor": catalog, "item": [{"href": f"{agents}/hello"}, {"href": f"{agents}/zed"}]},
            {"anchor": f"{agents}/hello", "service-desc": card("hello")},
            {"anchor": f"{agents}/zed", "service-desc": card("zed"), "service-doc": [{"href": "https://example.com/zed"}]},
        ]
    }


async def test_the_default_agents_card_stands_at_the_root(tmp_path: Path) -> None:
    async with serving(tmp_path, default_agent="hello") as gateway:
        root = await gateway.http.get(f"{gateway.url}/.well-known/agent-card.json")
        own = await gateway.http.get(f"{gateway.url}/agents/hello/.well-known/agent-card.json")
        assert (root.content, root.headers["etag"]) == (own.content, own.headers["etag"])
        assert root.json()["supportedInterfaces"][0]["url"] == f"{gateway.url}/agents/hello"
        await gateway.owner("agent.update", name="hello", changes={"public": False})
        assert (await gateway.http.get(f"{gateway.url}/.well-known/agent-card.json")).status_code == 404


async def test_without_a_default_agent_there_is_nothing_at_the_root(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        answer = await gateway.http.get(f"{gateway.url}/.well-known/agent-card.json")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
