"""Files that come with a message: what is taken, what is refused, and where a runtime finds them."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from tests.gateway.files.desk import PNG, content, desk, raw, refusal, say, spoken, stored, workspace
from tests.support import message

pytestmark = pytest.mark.anyio
PARAMS, CONTENT_TYPE = -32602, -32005


async def test_hostile_names_become_plain_ones_and_nothing_is_overwritten(tmp_path: Path) -> None:
    """[FILE-2]"""
    names = ["../x.txt", "a/x.txt", "x\0.txt", "CON", "n" * 300 + ".txt", "\u202etxt.x"]
    files = [raw(str(number).encode(), name, "text/plain") for number, name in enumerate(names)]
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, "cd inbox; grep -c '' *; cat x.txt x-2.txt x-3.txt", *files)
            again = await say(gateway, "cat inbox/x-4.txt", raw(b"later", "x.txt", "text/plain"), contextId=task["contextId"])
    inbox = workspace(tmp_path, task) / "inbox"
    found = {path.name: path.read_text() for path in inbox.iterdir()}
    long = "n" * 196 + ".txt"
    assert found == {"x.txt": "0", "x-2.txt": "1", "x-3.txt": "2", "_CON": "3", long: "4", "txt.x": "5", "x-4.txt": "later"}
    assert "later" in spoken(again)


async def test_symlinks_left_in_the_inbox_are_not_followed(tmp_path: Path) -> None:
    """[FILE-2]"""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("mine")
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            first = await say(gateway, f"ln -s {outside} inbox")
            context = first["contextId"]
            await say(gateway, "cat inbox/x.txt", raw(b"one", "x.txt", "text/plain"), contextId=context)
            await say(gateway, f"rm inbox/x.txt; ln -s {outside}/x.txt inbox/x.txt", contextId=context)
            last = await say(gateway, "cat inbox/x-2.txt", raw(b"two", "x.txt", "text/plain"), contextId=context)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"x.txt": "mine"}
    assert "two" in spoken(last)


async def test_what_the_card_does_not_declare_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    """[FILE-1]"""
    with anyio.fail_after(30):
        async with desk(tmp_path, ["image/*"]) as gateway:
            refused = [
                await refusal(gateway, raw(b"PK\x03\x04")),
                await refusal(gateway, raw(b"x", "a.csv")),
                await refusal(gateway, raw(PNG, "a.png"), raw(b"x", "a.png", "text/plain")),
                await refusal(gateway, {"data": {"a": 1}}),
                await refusal(gateway, {"url": "https://files.example/a", "mediaType": "text/plain"}),
            ]
            assert stored(tmp_path) == []
            taken = await say(gateway, "cat inbox/a.png | wc -c", raw(PNG, "a.png"))
            odd = await gateway.rpc(
                "echo", "SendMessage", {"message": message("", parts=[{"raw": "", "mediaType": "no type"}])}
            )
    assert [error["code"] for error in refused] == [CONTENT_TYPE] * 5
    assert odd["error"]["code"] == PARAMS
    assert spoken(taken).split()[0] == str(len(PNG))


async def test_too_large_and_too_many_are_refused(tmp_path: Path) -> None:
    """[FILE-1]"""
    limits = {"max_file_bytes": 10, "max_files_bytes": 15, "max_files": 2}
    ten = raw(b"x" * 10, "a.txt")
    with anyio.fail_after(30):
        async with desk(tmp_path, **limits) as gateway:
            refused = [
                await refusal(gateway, raw(b"x" * 11, "a.txt")),
                await refusal(gateway, ten, ten),
                await refusal(gateway, *[raw(b"", "a.txt")] * 3),
            ]
            await say(gateway, "true", ten)
    assert [error["code"] for error in refused] == [PARAMS] * 3
    assert ["11 bytes" in refused[0]["message"], "15 bytes" in refused[1]["message"], "3 files" in refused[2]["message"]] == [
        True
    ] * 3


async def test_large_data_goes_into_a_file_and_stays_data_in_the_history(tmp_path: Path) -> None:
    data = {"words": ["w" * 100] * 1000}
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, "wc -c < inbox/data.json", {"data": data}, {"data": {"small": 1}})
    assert task["history"][0]["parts"][1:] == [{"data": data}, {"data": {"small": 1}}]
    assert spoken(task).split(maxsplit=1)[0] == str(len(json.dumps(data)))
    assert 'Attached file: inbox/data.json (application/json)\n\n{"small": 1' in spoken(task)


async def test_the_log_holds_a_reference_and_history_small_bytes_or_a_url(tmp_path: Path) -> None:
    """[FILE-3]"""
    with anyio.fail_after(30):
        async with desk(tmp_path, inline_file_bytes=20) as gateway:
            files = raw(PNG, "small.png"), {**raw(b"y" * 21, "large.txt"), "metadata": {"page": 2}}
            task = await say(gateway, "true", *files)
            events = await gateway.events(task["contextId"])
            _, small, large = task["history"][0]["parts"]
            body = (await gateway.http.get(large["url"])).content
    said = next(event for event in events if event["type"] == "message")
    assert [set(part) for part in said["body"]["parts"]] == [{"text"}, {"stored"}, {"stored", "metadata"}]
    assert (small["filename"], small["mediaType"], content(small)) == ("small.png", "image/png", PNG)
    assert {name: large[name] for name in large if name != "url"} == {
        "filename": "large.txt",
        "mediaType": "text/plain",
        "metadata": {"page": 2.0},
    }
    assert body == b"y" * 21
