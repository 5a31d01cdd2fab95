"""What a child finds around itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from adapters.launch.home import child_env, write_files
from adapters.launch.process import LaunchError


def modes(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(root.rglob("*"))}


def test_files_and_directories_are_private_and_helpers_can_run(tmp_path: Path) -> None:
    home = tmp_path / "sessions" / "home"
    write_files(str(home), {".vendor/settings.json": "{}", ".switchboard/bin/helper": "#!/bin/sh\n", "plain": "ä\r\n"})
    assert modes(home) == {
        ".switchboard": "0o700",
        ".switchboard/bin": "0o700",
        ".switchboard/bin/helper": "0o700",
        ".vendor": "0o700",
        ".vendor/settings.json": "0o600",
        "plain": "0o600",
        "tmp": "0o700",
    }
    assert (home / "plain").read_bytes() == "ä\r\n".encode()


def test_a_file_is_replaced_whole_and_its_mode_mended(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("old and longer", "utf-8")
    (tmp_path / "settings").chmod(0o644)
    before = (tmp_path / "settings").open(encoding="utf-8")
    write_files(str(tmp_path), {"settings": "new"})
    with before:
        assert before.read() == "old and longer"
    assert (tmp_path / "settings").read_text("utf-8") == "new"
    assert modes(tmp_path) == {"settings": "0o600", "tmp": "0o700"}


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "..", ".", "", "a/", "a\0b"])
def test_a_path_that_is_no_file_below_home_is_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    home = tmp_path / "home"
    with pytest.raises(LaunchError) as caught:
        write_files(str(home), {"good": "x", path: "x"})
    assert caught.value.what == "files"
    assert list(tmp_path.iterdir()) == []


def test_a_symlinked_directory_is_refused(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    (home / "link").symlink_to(outside)
    with pytest.raises(LaunchError) as caught:
        write_files(str(home), {"link/x": "x"})
    assert caught.value.what == "files"
    assert list(outside.iterdir()) == []


def test_a_symlinked_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.write_text("untouched", "utf-8")
    (home / "x").symlink_to(outside)
    write_files(str(home), {"x": "mine"})
    assert (outside.read_text("utf-8"), (home / "x").read_text("utf-8")) == ("untouched", "mine")
    assert not (home / "x").is_symlink()


def test_the_environment_is_a_handful_of_basics_and_the_given_pairs() -> None:
    assert child_env("/h", {"KEY": "1", "TERM": "x"}, {"KEY": "2"}, path="/bin") == {
        "PATH": "/bin",
        "HOME": "/h",
        "LANG": "C.UTF-8",
        "TERM": "x",
        "TMPDIR": "/h/tmp",
        "KEY": "2",
    }
    assert child_env("/h")["PATH"] == os.environ["PATH"]
