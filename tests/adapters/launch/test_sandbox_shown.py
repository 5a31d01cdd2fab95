"""What a sandbox shows of the machine for a program that stands in the user's HOME, beside the gateway's data. [SBX-1]"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.launch import sandbox
from adapters.launch.process import LaunchError
from tests import needs

PATH = os.environ["PATH"]
SECRETS = {
    ".local/share/switchboard/owner.key": "the owner's key",
    ".local/share/switchboard/sessions/other/home/journal": "what another said",
    ".ssh/id_ed25519": "the user's key",
    ".claude/.credentials.json": "the user's login",
    "letter": "the user's letter",
}
LOOKS = 'echo it runs; grep -rs "" {home}; echo $?'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's, with the gateway's data where they are by default."""
    needs.a_sandbox()
    home = tmp_path / "user"
    for name, text in SECRETS.items():
        put(home / name, text, 0o600)
    for name in ("home", "work"):
        (home / ".local/share/switchboard/sessions/mine" / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


def put(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def link(place: Path, to: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(to)
    return place


def argv_of(home: Path, program: Path, **more: object) -> list[str]:
    data = home / ".local/share/switchboard"
    mine = data / "sessions/mine"
    path = f"{program.parent}:{PATH}"
    dirs = {"home": str(mine / "home"), "work": str(mine / "work")}
    return sandbox.wrapped([program.name], **dirs, path=path, **{"hides": [str(data)], **more})  # type: ignore[arg-type]


def printed(home: Path, program: Path) -> str:
    env = {"PATH": f"{program.parent}:{PATH}", "HOME": str(home)}
    done = subprocess.run(argv_of(home, program), env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr == ""
    return done.stdout


def shell(home: Path) -> str:
    return f"#!/bin/sh\n{LOOKS.format(home=home)}\n"


def native(home: Path) -> Path:
    """A link to one file of a version, as Claude Code's installer makes it."""
    put(home / ".local/share/agent/versions/1.2.3", shell(home))
    return link(home / ".local/bin/agent", "../share/agent/versions/1.2.3")


def alone(home: Path) -> Path:
    return put(home / "bin/agent", shell(home))


def beside_libraries(home: Path) -> Path:
    put(home / ".local/lib/agent/rules", LOOKS.format(home=home))
    return put(home / ".local/bin/agent", '#!/bin/sh\n. "$(dirname "$0")/../lib/agent/rules"\n')


def in_settings(home: Path) -> Path:
    return put(home / ".claude/agent", shell(home))


def by_npm(home: Path) -> Path:
    """With an interpreter that came by a version manager, itself a link into a directory that is one."""
    put(home / ".npm-global/lib/node_modules/agent/rules", LOOKS.format(home=home))
    here = f"{home}/.npm-global/lib/node_modules/agent"
    put(home / ".npm-global/lib/node_modules/agent/cli", f"#!/usr/bin/env -S agent-sh -e\n. {here}/rules\n")
    link(home / ".npm-global/bin/agent", "../lib/node_modules/agent/cli")
    link(home / ".versions/3.0/bin/agent-sh", "/bin/sh")
    link(home / ".versions/current", "3.0")
    link(home / ".npm-global/bin/agent-sh", str(home / ".versions/current/bin/agent-sh"))
    return home / ".npm-global/bin/agent"


def by_pipx(home: Path) -> Path:
    """A script of an environment, whose Python is a link to one that stands elsewhere."""
    venv = home / ".local/share/pipx/venvs/agent"
    put(venv / "pyvenv.cfg", f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    put(venv / f"lib/{version}/site-packages/agent_rules.py", f"import os\nos.system({LOOKS.format(home=home)!r})\n")
    link(venv / "bin/python", os.path.realpath(sys.executable))
    put(venv / "bin/agent", f"#!{venv}/bin/python\nimport agent_rules\n")
    return link(home / ".local/bin/agent", str(venv / "bin/agent"))


@pytest.mark.parametrize("laid", [native, alone, beside_libraries, in_settings, by_npm, by_pipx])
def test_a_program_in_home_is_shown_and_nothing_else_there(home: Path, laid: object) -> None:
    program = laid(home)  # type: ignore[operator]
    found = printed(home, program)
    assert found.startswith("it runs\n")
    assert [text for text in SECRETS.values() if text in found] == []


def test_a_program_whose_prefix_holds_the_data_is_shown_alone(home: Path, tmp_path: Path) -> None:
    """Outside HOME, where the directory its `bin` stands in would do."""
    data = tmp_path / "opt/tool/data"
    put(data / "owner.key", "the owner's key", 0o600)
    program = put(tmp_path / "opt/tool/bin/agent", f"#!/bin/sh\necho it runs; cat {data}/owner.key 2>&1\n")
    argv = argv_of(home, program, hides=[str(data)])
    done = subprocess.run(argv, env={"PATH": PATH}, capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.startswith("it runs\n")
    assert "No such file" in done.stdout


@pytest.mark.parametrize("kept", ["node_modules/.data", "node_modules"])
def test_a_package_that_holds_the_data_is_refused(home: Path, tmp_path: Path, kept: str) -> None:
    program = put(tmp_path / "node_modules/agent/cli", shell(home))
    (tmp_path / kept).mkdir(exist_ok=True)
    with pytest.raises(LaunchError, match=r"is or holds.*Install 'cli' in a directory of its own"):
        argv_of(home, program, hides=[str(tmp_path / kept)])


def test_home_is_refused_whoever_asks_for_it(home: Path) -> None:
    with pytest.raises(LaunchError, match="is or holds"):
        argv_of(home, alone(home), sees=[str(home.parent)])


def test_data_below_the_systems_directories_are_covered(home: Path) -> None:
    """They are the only ones that everybody is shown."""
    argv = argv_of(home, alone(home), hides=["/usr/share"])
    at = argv.index("/usr/share")
    assert argv[at - 1] == "--tmpfs"
    assert at > argv.index("/usr")
    looked = [*argv[: argv.index("--chdir")], "--chdir", "/", "--", "/bin/ls", "-A", "/usr/share"]
    assert subprocess.run(looked, capture_output=True, text=True, timeout=20, check=True).stdout == ""
