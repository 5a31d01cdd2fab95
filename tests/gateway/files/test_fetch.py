"""Files fetched from URLs: names are resolved by the test, no packet leaves this machine.

[FILE-7]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from gateway.deliver.guard import Guard
from gateway.errors import InvalidParams
from gateway.files.fetch import Fetched, Fetcher
from tests.gateway.files.desk import PNG, content, desk, refusal, say, spoken, stored
from tests.gateway.files.shelf import SLOW, endless, moved, ok, shelf

pytestmark = pytest.mark.anyio
PARAMS, CONTENT_TYPE = -32602, -32005
PUBLIC = {"shelf.example": "127.0.0.1", "inside.example": "127.0.0.2", "ten.example": "10.0.0.1"}


async def resolve(host: str, port: int) -> Sequence[str]:
    return [PUBLIC.get(host, host)]


async def fetched(url: str, limit: int = 1000, seconds: float = 20) -> tuple[Fetched, bytes]:
    """By a guard that lets only `shelf.example` be on this machine."""
    got = bytearray()

    async def write(piece: bytes) -> None:
        got.extend(piece)

    found = await Fetcher(Guard.allowing("shelf.example", resolve), seconds).fetch(url, limit, write)
    return found, bytes(got)


async def test_a_file_is_fetched_with_its_type_and_name_also_behind_redirects() -> None:
    with anyio.fail_after(20):
        async with shelf(
            {"/a": moved("/b/"), "/b/": moved("c%20d.csv?x=1"), "/b/c%20d.csv?x=1": ok(b"1,2", "text/csv")}
        ) as port:
            found = await fetched(f"http://shelf.example:{port}/a")
    assert found == (Fetched("text/csv", "c d.csv"), b"1,2")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/inside", "has no public address"),
        ("/inside-by-number", "has no public address"),
        ("/ten", "has no public address"),
        ("/file", "must begin with https://"),
        ("/nowhere", "led on to what is no URL"),
        ("/round", "led on more than 5 times"),
        ("/missing", "The answer was 404."),
        ("/large", "larger than 1000 bytes"),
        ("/endless", "larger than 1000 bytes"),
        ("/packed", "compressed"),
        ("/cut", "could not be reached"),
    ],
)
async def test_what_cannot_be_fetched_is_told_without_a_word_of_the_network(path: str, said: str) -> None:
    answers = {
        "/inside": moved("http://inside.example/"),
        "/inside-by-number": moved("http://2130706434/"),
        "/ten": moved("https://ten.example/"),
        "/file": moved("file:///etc/passwd"),
        "/nowhere": moved("http://[x"),
        "/round": moved("/round"),
        "/large": ok(b"x" * 1001),
        "/endless": endless() + b"x",
        "/packed": ok(b"x", Content_Encoding="gzip"),
        "/cut": ok(b"whole")[:-2],
    }
    with anyio.fail_after(20):
        async with shelf(answers) as port:
            with pytest.raises(InvalidParams) as refused:
                await fetched(f"http://shelf.example:{port}{path}")
    assert said in refused.value.message
    assert not [word for word in ("127.", "10.0", "Error", "SWITCHBOARD") if word in refused.value.message]


async def test_a_slow_file_is_given_up() -> None:
    with anyio.fail_after(20):
        async with shelf({"/slow": SLOW}) as port:
            with pytest.raises(InvalidParams, match="longer than"):
                await fetched(f"http://shelf.example:{port}/slow", seconds=0.2)


async def test_a_url_part_is_fetched_and_stands_in_the_history_by_its_bytes(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with shelf({"/a/note.txt": ok(b"from afar")}) as port, desk(tmp_path, allow_private_hosts="127.0.0.1") as gateway:
            task = await say(gateway, "cat inbox/note.txt", {"url": f"http://127.0.0.1:{port}/a/note.txt"})
    part = task["history"][0]["parts"][1]
    assert (part["filename"], part["mediaType"], content(part)) == ("note.txt", "text/plain", b"from afar")
    assert spoken(task).startswith("from afar")


async def test_a_url_part_that_fails_stores_nothing(tmp_path: Path) -> None:
    answers = {"/page": ok(b"<p>", "application/xhtml+xml"), "/home": moved("http://127.0.0.2/"), "/big": ok(b"x" * 101)}
    answers |= {
        "/octets": ok(PNG + b"\0" * 20, "application/octet-stream"),
        "/zip": ok(b"PK\x03\x04", "application/octet-stream"),
    }
    with anyio.fail_after(30):
        async with (
            shelf(answers) as port,
            desk(tmp_path, allow_private_hosts="127.0.0.1", max_file_bytes=100, fetch_seconds=5) as gateway,
        ):
            url = f"http://127.0.0.1:{port}"
            codes = {path: (await refusal(gateway, {"url": url + path}))["code"] for path in ("/page", "/home", "/big", "/zip")}
            private = await refusal(gateway, {"url": "http://127.0.0.2/x", "mediaType": "text/plain"})
            assert stored(tmp_path) == []
            assert list((tmp_path / "files" / "new").iterdir()) == []
            await say(gateway, "true", {"url": url + "/octets"})
    assert codes == {"/page": CONTENT_TYPE, "/home": PARAMS, "/big": PARAMS, "/zip": CONTENT_TYPE}
    assert private["code"] == PARAMS
