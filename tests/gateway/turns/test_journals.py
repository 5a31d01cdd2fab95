"""Journals: what a machine has of a session, what it restores, and what copies cost.

[JRNL-1]
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from gateway.errors import UsageError
from gateway.turns import mounted
from gateway.turns.copies import Copies
from gateway.turns.journals import Journals, Taken
from gateway.turns.mounted import Mounted
from gateway.turns.objects import Objects

SESSION = "ses_1"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=out, stderr=out)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def wait_for_port(port: int) -> None:
    for _ in range(300):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the S3 server did not start")


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        "ENDPOINT_URL": s3,
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = f"journals-{secrets.token_hex(4)}"
    Objects.at(f"s3://{name}").files.mkdir(name)
    yield f"s3://{name}/below"
    S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["directory", "objects", "s3"])
def copies(request: pytest.FixtureRequest, tmp_path: Path) -> Copies:
    """An empty place for copies: a directory, an object store in a directory, one that speaks S3."""
    (tmp_path / "shared").mkdir()
    match request.param:
        case "directory":
            return Mounted(tmp_path / "shared")
        case "objects":
            return Objects.at(f"file://{tmp_path}/shared")
        case _:
            return Objects.at(request.getfixturevalue("bucket"))


def machine(tmp_path: Path, name: str, copies: Copies | None = None) -> Journals:
    return Journals(tmp_path / name, copies)


def write(journals: Journals, path: str, text: str) -> Path:
    file = journals.sessions / SESSION / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def read(journals: Journals, path: str) -> str:
    return (journals.sessions / SESSION / path).read_text("utf-8")


def test_a_machine_that_has_seen_the_last_attempt_has_the_journal(tmp_path: Path) -> None:
    here = machine(tmp_path, "a")
    assert here.take(SESSION, None, "1") == Taken("here")
    write(here, "home/memory", "one")
    for known, name in (("1", "2"), ("2", "3"), ("2", "4"), ("4", "5")):  # 3 was killed before its name was stored
        assert here.take(SESSION, known, name) == Taken("here")
    assert read(here, "home/memory") == "one"


def test_another_machine_restores_the_copy_and_the_first_one_then_takes_it_back(tmp_path: Path, copies: Copies) -> None:
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    write(a, "work/run", "#!/bin/sh").chmod(0o750)
    write(a, "work/read only/\udcff ü", "odd").parent.chmod(0o500)
    (a.sessions / SESSION / "work" / "link").symlink_to("run")
    (a.sessions / SESSION / "work" / "empty").mkdir()
    os.mkfifo(a.sessions / SESSION / "home" / "pipe")
    write(a, "home/.cache/x", "not worth it")
    a.keep(SESSION, "1", {"claude": {"native_session": "n1"}})
    assert b.take(SESSION, "1", "2") == Taken("restored", {"claude": {"native_session": "n1"}})
    assert read(b, "home/memory") == "one"
    work = b.sessions / SESSION / "work"
    assert (work / "run").stat().st_mode & 0o777 == 0o750
    assert (work / "run").stat().st_mtime_ns == (a.sessions / SESSION / "work" / "run").stat().st_mtime_ns
    assert (work / "read only").stat().st_mode & 0o777 == 0o500
    assert read(b, "work/read only/\udcff ü") == "odd"
    assert os.readlink(work / "link") == "run"
    assert list((work / "empty").iterdir()) == []
    assert sorted(path.name for path in (b.sessions / SESSION / "home").iterdir()) == ["memory"]
    write(b, "home/memory", "two")
    b.keep(SESSION, "2", {})
    assert a.take(SESSION, "2", "3") == Taken("restored", {})
    assert read(a, "home/memory") == "two"
    assert a.take(SESSION, "3", "4") == Taken("here")
    assert copies.names(SESSION) == [2]


def test_after_a_crash_elsewhere_the_last_copy_is_what_there_is(tmp_path: Path, copies: Copies) -> None:
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    a.keep(SESSION, "1", {"x": 1})
    a.take(SESSION, "1", "2")
    write(a, "home/memory", "half of two")  # and no more of it
    assert b.take(SESSION, "2", "3") == Taken("restored", {"x": 1}, older=True)
    assert read(b, "home/memory") == "one"
    assert b.take(SESSION, "3", "4") == Taken("here")


def test_without_a_copy_the_journal_is_lost_elsewhere(tmp_path: Path) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    a.take(SESSION, None, "1")
    a.keep(SESSION, "1", {})
    assert b.take(SESSION, "1", "2") == Taken("lost")
    assert a.take(SESSION, "2", "3") == Taken("lost")  # what it has is old
    assert a.take(SESSION, "3", "4") == Taken("here")


def test_what_is_restored_takes_the_place_of_what_directories_hold_and_not_of_themselves(
    tmp_path: Path, copies: Copies
) -> None:
    """A container that runs has them mounted; what is of this machine alone stays."""
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    b.take(SESSION, None, "1")
    place = b.sessions / SESSION
    write(b, "work/old/file", "0")
    write(b, "hands/.profile", "of this machine")
    write(b, "ready", "")
    before = os.stat(place / "work").st_ino
    b.keep(SESSION, "1", {})
    a.take(SESSION, "1", "2")
    os.rename(a.sessions / SESSION / "work" / "old", a.sessions / SESSION / "work" / "new")
    (a.sessions / SESSION / "work").chmod(0o750)
    a.keep(SESSION, "2", {})
    assert b.take(SESSION, "2", "3") == Taken("restored", {})
    assert [path.name for path in (place / "work").iterdir()] == ["new"]
    assert (os.stat(place / "work").st_ino, os.stat(place / "work").st_mode & 0o777) == (before, 0o750)
    assert read(b, "hands/.profile") == "of this machine"
    assert (place / "ready").exists()
    assert [path.name for path in b.sessions.iterdir()] == [SESSION]


def test_a_copy_leads_nowhere_else_though_the_journal_is_changed_while_it_is_made(
    tmp_path: Path, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[JRNL-3] What still runs there puts links to other places where folders and files were."""
    secret = tmp_path / "keys"
    secret.mkdir()
    (secret / "owner.key").write_text("of the gateway", "utf-8")
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    a.take(SESSION, None, "1")
    for path in ("work/folder/owner.key", "work/file", "work/pipe", "work/stays"):
        write(a, path, "mine")
    work = a.sessions / SESSION / "work"
    scandir = os.scandir

    def swapped(path: Any) -> Any:
        """As it was seen, when it is that no longer."""
        found = scandir(path)
        if not isinstance(path, int) or not os.path.samestat(os.fstat(path), work.stat()):
            return found
        with found:
            seen = [(entry.stat(follow_symlinks=False), entry)[1] for entry in found]
        for name in ("folder", "file", "pipe"):
            os.rename(work / name, tmp_path / name)
        os.symlink(secret, work / "folder")
        os.symlink(secret / "owner.key", work / "file")
        os.mkfifo(work / "pipe")
        return contextlib.closing(seen_iterator(seen))

    monkeypatch.setattr(os, "scandir", swapped)
    a.keep(SESSION, "1", {})
    monkeypatch.undo()
    assert b.take(SESSION, "1", "2") == Taken("restored", {})
    found = {path.name: path.read_text("utf-8") for path in (b.sessions / SESSION / "work").rglob("*") if path.is_file()}
    assert found == {"stays": "mine"}


def seen_iterator(entries: list[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    yield from entries


def test_folders_without_end_are_not_copied(tmp_path: Path) -> None:
    a = machine(tmp_path, "a", Mounted(tmp_path))
    a.take(SESSION, None, "1")
    write(a, "/".join(["work", *"d" * 300, "file"]), "deep")
    with pytest.raises(OSError, match="Folders are in each other"):
        a.keep(SESSION, "1", {})
    assert Mounted(tmp_path).names(SESSION) == []


def two_copies(tmp_path: Path, copies: Copies, between: Callable[[], object] = lambda: None) -> None:
    """Of a big file that stays as it is, a small one that changes, one that goes and one that comes."""
    a = machine(tmp_path, "a", copies)
    a.take(SESSION, None, "1")
    write(a, "work/big", "x" * 100_000)
    small, old = write(a, "work/small", "1"), write(a, "work/old", "0")
    a.keep(SESSION, "1", {})
    between()
    small.write_text("22", "utf-8")
    old.unlink()
    write(a, "work/new", "3")
    a.keep(SESSION, "2", {})


def test_a_copy_is_of_all_that_is_there(tmp_path: Path, copies: Copies) -> None:
    two_copies(tmp_path, copies)
    b = machine(tmp_path, "b", copies)
    assert b.take(SESSION, "2", "3") == Taken("restored", {})
    found = {path.name: path.read_text("utf-8") for path in (b.sessions / SESSION / "work").iterdir()}
    assert found == {"big": "x" * 100_000, "small": "22", "new": "3"}


def test_a_copy_in_a_directory_links_what_has_not_changed(tmp_path: Path) -> None:
    inodes: list[set[int]] = []

    def look() -> None:
        inodes.append({path.stat().st_ino for path in tmp_path.glob(f"{SESSION}/*/work/*")})

    two_copies(tmp_path, Mounted(tmp_path), look)
    look()
    assert inodes[0] & inodes[1] == {(tmp_path / SESSION / "2" / "work" / "big").stat().st_ino}
    assert {path.name for path in (tmp_path / SESSION).iterdir()} == {"2"}


def test_a_copy_of_objects_writes_what_has_changed_and_leaves_nothing_over(tmp_path: Path) -> None:
    two_copies(tmp_path, Objects.at(f"file://{tmp_path}/shared"))
    folder = tmp_path / "shared" / SESSION
    found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    told = found.pop("2.json")
    assert sorted(found.values()) == [1, 2, 100_000]
    assert [name.partition("/")[0] for name, size in found.items() if size == 100_000] == ["1"]
    assert {name.partition("/")[0] for name, size in found.items() if size < 100_000} == {"2"}
    assert told < 1000


def full(*_: object) -> None:
    raise OSError("no space")


def test_a_copy_that_breaks_off_is_not_there_and_the_one_before_stays(
    tmp_path: Path, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    a.keep(SESSION, "1", {})
    write(a, "home/memory", "of two")
    monkeypatch.setattr(mounted, "_flush", full)
    if isinstance(copies, Objects):
        monkeypatch.setattr(copies.files, "pipe_file", full)
    with pytest.raises(OSError, match="no space"):
        a.keep(SESSION, "2", {})
    assert copies.names(SESSION) == [1]
    assert b.take(SESSION, "2", "3") == Taken("restored", {}, older=True)
    assert read(b, "home/memory") == "one"


def test_a_late_copy_of_a_superseded_attempt_does_no_harm(tmp_path: Path, copies: Copies) -> None:
    a, b, c = (machine(tmp_path, name, copies) for name in "abc")
    a.take(SESSION, None, "1")
    write(a, "home/memory", "late")
    b.take(SESSION, None, "2")
    write(b, "home/memory", "true")
    b.keep(SESSION, "2", {})
    a.keep(SESSION, "1", {})
    assert c.take(SESSION, "2", "3") == Taken("restored", {})
    assert read(c, "home/memory") == "true"


def test_a_copy_that_is_replaced_while_it_is_read_is_read_anew(
    tmp_path: Path, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = machine(tmp_path, "a", copies), machine(tmp_path, "b", copies)
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    a.keep(SESSION, "1", {})
    names, restore = type(copies).names, type(copies).restore
    stale = [[1]]  # what is seen at the first look: it is gone when it is read

    def looked(self: Copies, session_id: str) -> list[int]:
        return stale.pop() if stale else names(self, session_id)

    def late(self: Copies, session_id: str, name: int, new: Path) -> dict[str, Any]:
        if name == 1:
            write(a, "home/memory", "two")
            a.keep(session_id, "2", {"x": 2})
        return restore(self, session_id, name, new)

    monkeypatch.setattr(type(copies), "restore", late)
    monkeypatch.setattr(type(copies), "names", looked)
    assert b.take(SESSION, "2", "3") == Taken("restored", {"x": 2})
    assert read(b, "home/memory") == "two"


def test_a_store_that_is_away_is_an_error_and_no_loss(tmp_path: Path) -> None:
    away = machine(tmp_path, "a", Mounted(tmp_path / "not mounted"))
    with pytest.raises(OSError, match="not mounted"):
        away.take(SESSION, "1", "2")


def test_settings_that_make_no_sense_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both set"):
        Journals.of(tmp_path, tmp_path, "s3://bucket")
    with pytest.raises(UsageError, match="nonsense"):
        Journals.of(tmp_path, None, "nonsense://bucket")
    assert Journals.of(tmp_path, None, "") == Journals(tmp_path)
    assert Journals.of(tmp_path, tmp_path, "") == Journals(tmp_path, Mounted(tmp_path))
