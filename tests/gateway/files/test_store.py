"""The store of contents: durable before named, swept when nobody names them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import anyio
import pytest

from gateway.db.engine import Database
from gateway.errors import Unavailable
from gateway.files import rows
from gateway.files.store import Content, Disk, put
from gateway.files.sweep import sweep
from tests.gateway.files.desk import desk, raw, say, stored
from tests.support import message

pytestmark = pytest.mark.anyio
OLD = 7200.0


def aged(path: Path) -> None:
    os.utime(path, (time.time() - OLD, time.time() - OLD))


def test_a_content_is_kept_once_by_its_hash(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    sha256 = hashlib.sha256(b"hello").hexdigest()
    assert [put(disk, [b"hel", b"lo"]), put(disk, [b"hello"])] == [Content(sha256, 5)] * 2
    with disk.open(sha256) as file:
        assert file.read() == b"hello"
    assert list((tmp_path / "new").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"half"
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        put(Disk(tmp_path), broken())  # type: ignore[arg-type]
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(Unavailable):
        Disk(tmp_path).open("0" * 64)


def test_only_old_contents_nobody_names_are_swept(tmp_path: Path) -> None:
    """[FILE-3]"""
    disk = Disk(tmp_path)
    named, orphan, fresh, again = (put(disk, [name]).sha256 for name in (b"named", b"orphan", b"fresh", b"again"))
    for sha256 in (named, orphan, again):
        aged(disk.path(sha256))
    put(disk, [b"again"])
    (tmp_path / "new" / "left").write_bytes(b"half")
    aged(tmp_path / "new" / "left")
    assert disk.sweep(lambda hashes: {named} & set(hashes), 3600) == 1
    assert sorted(path.name for path in tmp_path.glob("??/*")) == sorted([named, fresh, again])
    assert list((tmp_path / "new").iterdir()) == []
    assert Disk(tmp_path / "none").sweep(lambda _: set(), 0) == 0


async def test_what_a_refused_message_left_is_swept_and_a_forgotten_sessions_files_too(tmp_path: Path) -> None:
    """[FILE-3]"""
    with anyio.fail_after(30):
        async with desk(tmp_path) as gateway:
            task = await say(gateway, "true", raw(b"kept", "a.txt"))
            left = {**message("", parts=[raw(b"left", "a.txt")]), "taskId": "tsk_nope"}
            refused = await gateway.rpc("echo", "SendMessage", {"message": left})
    assert refused["error"]["code"] == -32001
    assert len(stored(tmp_path)) == 2
    database = Database(f"sqlite:///{tmp_path / 'switchboard.db'}")
    await database.start()
    try:
        swept = [await sweep(database, Disk(tmp_path / "files"), grace=-60)]
        assert await database.write(lambda conn: rows.forget(conn, task["contextId"])) == 1
        swept.append(await sweep(database, Disk(tmp_path / "files"), grace=-60))
    finally:
        await database.aclose()
    assert swept == [1, 1]
    assert stored(tmp_path) == []
