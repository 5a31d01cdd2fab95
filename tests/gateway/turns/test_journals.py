"""Journals: what a machine has of a session, what it restores, and what copies cost.

[JRNL-1]
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.turns import journals as module
from gateway.turns.journals import Journals, Taken

SESSION = "ses_1"


def machine(tmp_path: Path, name: str, *, shared: bool = True) -> Journals:
    (tmp_path / "shared").mkdir(exist_ok=True)
    return Journals(tmp_path / name, tmp_path / "shared" if shared else None)


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


def test_another_machine_restores_the_copy_and_the_first_one_then_takes_it_back(tmp_path: Path) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    write(a, "work/run", "#!/bin/sh").chmod(0o750)
    (a.sessions / SESSION / "work" / "link").symlink_to("run")
    os.mkfifo(a.sessions / SESSION / "home" / "pipe")
    write(a, "home/.cache/x", "not worth it")
    a.keep(SESSION, "1", {"claude": {"native_session": "n1"}})
    assert b.take(SESSION, "1", "2") == Taken("restored", {"claude": {"native_session": "n1"}})
    assert read(b, "home/memory") == "one"
    assert (b.sessions / SESSION / "work" / "run").stat().st_mode & 0o777 == 0o750
    assert os.readlink(b.sessions / SESSION / "work" / "link") == "run"
    assert sorted(path.name for path in (b.sessions / SESSION / "home").iterdir()) == ["memory"]
    write(b, "home/memory", "two")
    b.keep(SESSION, "2", {})
    assert a.take(SESSION, "2", "3") == Taken("restored", {})
    assert read(a, "home/memory") == "two"
    assert a.take(SESSION, "3", "4") == Taken("here")
    assert [path.name for path in (tmp_path / "shared" / SESSION).iterdir()] == ["2"]


def test_after_a_crash_elsewhere_the_last_copy_is_what_there_is(tmp_path: Path) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    a.keep(SESSION, "1", {"x": 1})
    a.take(SESSION, "1", "2")
    write(a, "home/memory", "half of two")  # and no more of it
    assert b.take(SESSION, "2", "3") == Taken("restored", {"x": 1})
    assert read(b, "home/memory") == "one"
    assert b.take(SESSION, "3", "4") == Taken("here")


def test_without_a_copy_the_journal_is_lost_elsewhere(tmp_path: Path) -> None:
    a, b = machine(tmp_path, "a", shared=False), machine(tmp_path, "b", shared=False)
    a.take(SESSION, None, "1")
    a.keep(SESSION, "1", {})
    assert b.take(SESSION, "1", "2") == Taken("lost")
    assert a.take(SESSION, "2", "3") == Taken("lost")  # what it has is old
    assert a.take(SESSION, "3", "4") == Taken("here")


def test_a_copy_costs_what_has_changed(tmp_path: Path) -> None:
    a = machine(tmp_path, "a")
    a.take(SESSION, None, "1")
    write(a, "work/big", "x" * 100_000)
    small = write(a, "work/small", "1")
    a.keep(SESSION, "1", {})
    first = {name: (tmp_path / "shared" / SESSION / "1" / "work" / name).stat().st_ino for name in ("big", "small")}
    small.write_text("22", "utf-8")
    (a.sessions / SESSION / "work" / "new").write_text("3", "utf-8")
    a.keep(SESSION, "2", {})
    second = tmp_path / "shared" / SESSION / "2" / "work"
    assert {path.name: path.read_text("utf-8") for path in second.iterdir()} == {
        "big": "x" * 100_000,
        "small": "22",
        "new": "3",
    }
    assert second.joinpath("big").stat().st_ino == first["big"]
    assert second.joinpath("small").stat().st_ino != first["small"]


def full(_: Path) -> None:
    raise OSError("no space")


def test_a_copy_that_breaks_off_is_not_there_and_the_one_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = machine(tmp_path, "a"), machine(tmp_path, "b")
    a.take(SESSION, None, "1")
    write(a, "home/memory", "one")
    a.keep(SESSION, "1", {})
    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(OSError, match="no space"):
        a.keep(SESSION, "2", {})
    assert [path.name for path in (tmp_path / "shared" / SESSION).iterdir()] == ["1"]
    assert b.take(SESSION, "2", "3") == Taken("restored", {})
    assert read(b, "home/memory") == "one"


def test_a_late_copy_of_a_superseded_attempt_does_no_harm(tmp_path: Path) -> None:
    a, b, c = (machine(tmp_path, name) for name in "abc")
    a.take(SESSION, None, "1")
    write(a, "home/memory", "late")
    b.take(SESSION, None, "2")
    write(b, "home/memory", "true")
    b.keep(SESSION, "2", {})
    a.keep(SESSION, "1", {})
    assert c.take(SESSION, "2", "3") == Taken("restored", {})
    assert read(c, "home/memory") == "true"
