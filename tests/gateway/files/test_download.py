"""Who gets a file from `/files/{id}`, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest

from gateway.files.http import disposition
from gateway.files.links import Links
from tests.gateway.files.desk import desk, raw, say
from tests.support import Client, Json

pytestmark = pytest.mark.anyio
BODY = bytes(range(200))
NAME = 'été "1".txt'


async def large(gateway: Client) -> Json:
    """The part of a file that is told by its URL."""
    task = await say(gateway, "true", raw(BODY, NAME, "text/plain"))
    part: Json = task["history"][0]["parts"][1]
    return part


def plain(url: str) -> str:
    return url.partition("?")[0]


async def test_a_signed_url_gives_the_file_with_headers_that_keep_browsers_from_looking_at_it(tmp_path: Path) -> None:
    """[FILE-8]"""
    async with desk(tmp_path, inline_file_bytes=0) as gateway:
        part = await large(gateway)
        answer = await gateway.http.get(part["url"])
        head = await gateway.http.head(part["url"])
    assert part["url"].startswith(f"{gateway.url}/files/fil_")
    assert (answer.status_code, answer.content, head.content) == (200, BODY, b"")
    names = ("content-type", "content-disposition", "x-content-type-options", "content-length", "accept-ranges")
    expected = [
        "text/plain",
        "attachment; filename=\"_t_ _1_.txt\"; filename*=UTF-8''%C3%A9t%C3%A9%20_1_.txt",
        "nosniff",
        "200",
        "bytes",
    ]
    assert [answer.headers[name] for name in names] == expected
    assert head.headers["content-length"] == "200"


@pytest.mark.parametrize(
    ("asked", "status", "span"),
    [
        ("bytes=0-9", 206, (0, 10)),
        ("bytes=190-", 206, (190, 200)),
        ("bytes=-5", 206, (195, 200)),
        ("bytes=0-999", 206, (0, 200)),
        ("bytes=-999", 206, (0, 200)),
        ("bytes=200-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 416, None),
        ("bytes=0-1,4-5", 200, (0, 200)),
        ("bytes=-", 200, (0, 200)),
        ("lines=1-2", 200, (0, 200)),
    ],
)
async def test_a_range_gives_its_bytes(
    shared: tuple[httpx2.AsyncClient, str], asked: str, status: int, span: tuple[int, int] | None
) -> None:
    """[FILE-8]"""
    http, url = shared
    answer = await http.get(url, headers={"Range": asked})
    assert answer.status_code == status
    if span is None:
        assert (answer.headers["content-range"], answer.content) == ("bytes */200", b"")
    else:
        told = f"bytes {span[0]}-{span[1] - 1}/200" if status == 206 else None
        assert (answer.headers.get("content-range"), answer.content) == (told, BODY[slice(*span)])


async def test_whoever_may_not_have_a_file_gets_the_same_404_as_for_none(tmp_path: Path) -> None:
    """[FILE-8] [INV-7]"""
    with anyio.fail_after(30):
        async with desk(tmp_path, inline_file_bytes=0) as gateway:
            mine, other = [(await gateway.owner("callers.add", name=name))["key"] for name in ("me", "other")]
            await gateway.sign_in(mine)
            url = (await large(gateway))["url"]
            query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
            links = Links(gateway.url, key_of(tmp_path))
            expired = replace(links, now=lambda: 1.0).url(plain(url).rpartition("/")[2])
            async with httpx2.AsyncClient() as anybody:
                refused = [
                    await anybody.get(plain(url)),
                    await anybody.get(plain(url), headers={"X-API-Key": other}),
                    await anybody.get(f"{gateway.url}/files/fil_nope", headers={"X-API-Key": mine}),
                    await anybody.get(expired),
                    await anybody.get(plain(url), params={**query, "expires": str(int(query["expires"]) + 1)}),
                    await anybody.get(plain(url), params={**query, "signature": "é"}),
                    await anybody.get(plain(url), params={**query, "expires": "x"}, headers={"X-API-Key": mine}),
                    await anybody.get(f"{gateway.url}/files/fil_nope", params=query),
                ]
                wrong = await anybody.get(plain(url), headers={"X-API-Key": "sbk_no_key"})
                own = await anybody.get(plain(url), headers={"X-API-Key": mine})
                by_link = await anybody.get(url)
                await gateway.owner("agent.delete", name="echo")
                gone = await anybody.get(plain(url), headers={"X-API-Key": mine})
    assert {(answer.status_code, answer.content) for answer in [*refused, gone]} == {(404, refused[0].content)}
    assert "have a new URL" in gone.json()["hint"]
    assert (wrong.status_code, own.content, by_link.content) == (401, BODY, BODY)


def key_of(data_dir: Path) -> bytes:
    return (data_dir / "files.key").read_text().strip().encode()


def test_a_url_holds_as_long_as_it_says_and_is_the_same_for_a_slot_of_time() -> None:
    """[FILE-8]"""
    times = [1000.0]
    links = Links("https://here", b"key", 3600, lambda: times[0])
    url = links.url("fil_1")
    query = parse_qs(urlsplit(url).query)
    expires, signature = query["expires"][0], query["signature"][0]
    times[0] = 1799.0
    assert links.url("fil_1") == url
    times[0] = 1801.0
    assert links.url("fil_1") != url
    assert 1000 + 3600 < int(expires) <= 1000 + 3600 + 900
    held = []
    for times[0] in (int(expires) - 1.0, float(expires)):
        held.append(links.holds("fil_1", expires, signature))
    assert held == [True, False]


def test_a_name_in_a_header_is_quoted_whole() -> None:
    assert disposition('a"\\;\u65e5.txt') == "attachment; filename=\"a__;_.txt\"; filename*=UTF-8''a%22%5C%3B%E6%97%A5.txt"


async def test_data_that_looks_like_a_file_of_ours_gets_no_url_and_breaks_no_reader(tmp_path: Path) -> None:
    """Neither what a caller sends nor what a tool is given may have the gateway sign for a file of somebody else. [FILE-5]"""
    parts = [{"data": {"stored": {"id": "fil_x", "name": "x", "size": 5, "media_type": "text/plain"}}}, {"data": {"stored": 1}}]
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, "true", *parts)
            found = await gateway.http.get(f"{gateway.url}/v1/sessions/{task['contextId']}/events")
    assert found.json()["events"][0]["body"]["parts"] == [{"text": "true"}, *parts]
