"""Files a turn gives out: from its outbox, and large ones it declares."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
from pathlib import Path

import anyio
import pytest

from tests.gateway.files.desk import artifacts, content, desk, raw, say, spoken, stored, updates, workspace
from tests.support import message

pytestmark = pytest.mark.anyio
OUT = "mkdir -p outbox; cd outbox; "


async def test_what_is_new_or_changed_in_the_outbox_becomes_artifacts(tmp_path: Path) -> None:
    """[FILE-4]"""
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            first = await say(gateway, OUT + "mkdir sub; echo '# a' > a.md; echo b > sub/b.csv; printf '\\0' > c")
            context = first["contextId"]
            second = await say(gateway, OUT + "echo more >> a.md; rm c", contextId=context)
            third = await say(gateway, "true", contextId=context)
    assert artifacts(first) == {
        "a.md": [{"text": "# a\n", "filename": "a.md", "mediaType": "text/markdown"}],
        "c": [{"raw": "AA==", "filename": "c", "mediaType": "application/octet-stream"}],
        "sub/b.csv": [{"text": "b\n", "filename": "b.csv", "mediaType": "text/csv"}],
    }
    assert artifacts(second) == {"a.md": [{"text": "# a\nmore\n", "filename": "a.md", "mediaType": "text/markdown"}]}
    assert artifacts(third) == {}


async def test_nothing_outside_leaves_through_the_outbox(tmp_path: Path) -> None:
    """[FILE-5]"""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    traps = f"ln -s {secret} a.txt; ln -s {tmp_path} b; mkfifo c; ln -s a.txt d.txt; echo fine > e.txt"
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            inside = await say(gateway, OUT + traps)
            whole = await say(gateway, f"ln -s {tmp_path} outbox")
    assert list(artifacts(inside)) == ["e.txt"]
    assert artifacts(whole) == {}


async def test_what_is_too_much_is_named_to_the_caller_and_told_to_the_owner(tmp_path: Path) -> None:
    """[FILE-6]"""
    with anyio.fail_after(30):
        async with desk(tmp_path, max_file_bytes=10, max_files=2) as gateway:
            task = await say(gateway, OUT + "printf 12345678901 > a.txt; echo b > b.txt; echo c > c.txt; echo d > d.txt")
            events = await gateway.events(task["contextId"])
    large = "The file 'a.txt' was not delivered: it has 11 bytes; at most 10 are delivered."
    many = "The file 'd.txt' was not delivered: at most 2 files of one turn are delivered."
    told = artifacts(task)
    assert [told["a.txt"], told["d.txt"]] == [[{"text": text, "metadata": {"delivered": False}}] for text in (large, many)]
    assert [told["b.txt"][0]["text"], told["c.txt"][0]["text"]] == ["b\n", "c\n"]
    notices = [event["body"]["text"] for event in events if event["type"] == "notice" and event["body"]["kind"] == "files"]
    assert notices == [large, many]


async def test_files_stand_before_the_end_of_their_turn(tmp_path: Path) -> None:
    """[FILE-4]"""
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, OUT + "head -c 100000 /dev/zero > a.bin")
            events = await gateway.events(task["contextId"])
    shown = [event["type"] for event in events if event["level"] != "internal"]
    assert shown == ["message", "turn_started", "artifact", "artifact", "done"]
    assert max(len(str(event["body"])) for event in events) < 1000


async def test_twenty_megabytes_go_out_by_url_with_flat_memory(tmp_path: Path) -> None:
    """[FILE-4] [INV-4]"""
    size = 20 * 2**20
    with anyio.fail_after(60):
        async with desk(tmp_path) as gateway:
            await say(gateway, OUT + "echo warm > warm.txt")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            frames = [frame async for frame in gateway.stream("echo", OUT + f"yes | head -c {size} > big.txt")]
            [update] = updates(frames, "big.txt")
            [part] = update["artifact"]["parts"]
            digest, length = hashlib.sha256(), 0
            async with gateway.http.stream("GET", part["url"]) as answer:
                async for piece in answer.aiter_bytes():
                    digest.update(piece)
                    length += len(piece)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (part["filename"], part["mediaType"], length) == ("big.txt", "text/plain", size)
    assert digest.hexdigest() == hashlib.sha256(b"y\n" * (size // 2)).hexdigest()
    assert grown < 12 * 1024  # KiB: not the file


async def test_large_bytes_a_runtime_declares_are_stored_and_told_in_pieces(tmp_path: Path) -> None:
    """[FILE-4]"""
    payload = bytes(range(256)) * 700
    encoded = base64.b64encode(payload).decode()
    command = (
        "python3 -c \"import json;p=open('inbox/p.txt').read();"
        "print(json.dumps({'type':'artifact','name':'made.bin','parts':"
        "[{'text':'see'},{'raw':p,'mediaType':'application/x-made'}]}))\""
    )
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            parts = [{"text": command}, raw(encoded.encode(), "p.txt")]
            stream = gateway.frames("echo", "SendStreamingMessage", {"message": message("", parts=parts)})
            frames = [frame async for frame in stream]
            task = await gateway.get("echo", frames[0].result["task"]["id"])
            events = await gateway.events(task["contextId"])
    told = updates(frames, "made.bin")
    pieces = [part for update in told for part in update["artifact"]["parts"]]
    assert pieces[0] == {"text": "see"}
    assert b"".join(map(content, pieces[1:])) == payload
    assert [(update["append"], update["lastChunk"]) for update in told] == [
        (False, False),
        *[(True, False)] * (len(told) - 2),
        (True, True),
    ]
    text, whole = artifacts(task)["made.bin"]
    assert (text, whole["mediaType"], content(whole)) == ({"text": "see"}, "application/x-made", payload)
    assert max(len(str(event["body"])) for event in events if event["type"] == "artifact") < 1000


async def test_a_runtime_cannot_refer_to_what_is_stored(tmp_path: Path) -> None:
    """[FILE-5]"""
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            await say(gateway, "true", raw(b"hidden", "h.txt"))
            [sha256] = stored(tmp_path)
            forged = {"id": "x", "name": "x", "media_type": "text/plain", "size": 6, "sha256": sha256}
            line = {"type": "artifact", "name": "n", "parts": [{"stored": forged}]}
            task = await say(gateway, f"echo '{json.dumps(line, separators=(',', ':'))}'")
            told = {"type": "message", "parts": [{"stored": forged}]}
            say_it = message(f"echo '{json.dumps(told, separators=(',', ':'))}'")
            answer = await gateway.rpc("echo", "SendMessage", {"message": say_it})
    [part] = artifacts(task)["n"]
    assert set(part) == {"data"}
    assert [set(part) for part in answer["result"]["task"]["status"]["message"]["parts"]] == [{"data"}]


async def test_no_machine_path_leaves_in_a_text_file(tmp_path: Path) -> None:
    """[HIDE-1]"""
    command = OUT + "pwd > where.txt; for n in $(seq 4000); do pwd; done > long.txt; pwd > odd.json; pwd > run.sh"
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, command)
    told = artifacts(task)
    assert told["where.txt"][0]["text"] == "/workspace/outbox\n"
    assert [content(told[name][0]) for name in ("odd.json", "run.sh")] == [b"/workspace/outbox\n"] * 2
    assert content(told["long.txt"][0]) == b"/workspace/outbox\n" * 4000
    assert str(workspace(tmp_path, task)) not in str(task)
    assert spoken(task) == ""


async def test_no_machine_path_leaves_in_a_small_file_a_runtime_declares(tmp_path: Path) -> None:
    """[HIDE-1]"""
    encoded = "$(printf 'in %s' $PWD | base64 -w0)"
    parts = f'"parts":[{{"raw":"{encoded}","mediaType":"text/plain"}},{{"raw":"{encoded}"}}]}}'
    command = f'cat <<END\n{{"type":"artifact","name":"a",{parts}\n{{"type":"message",{parts}\nEND'
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, command)
    told = [*artifacts(task)["a"], *task["status"]["message"]["parts"]]
    assert list(map(content, told)) == [b"in /workspace"] * 4
