"""Runtimes by registration line and by plug-in (entry point group `switchboard.runtimes`). [DLG-5]"""

import subprocess
import sys
import tomllib
from pathlib import Path

from adapters.registration import BUILT_IN, FOR_TESTS

ROOT = Path(__file__).parent.parent.parent

PLUGIN = """
from dataclasses import replace
from adapters.runtimes.rehearsal.profile import PROFILE as rehearsal

PROFILE = replace(rehearsal, name="parrot", title="A plug-in")
TAKEN = replace(rehearsal, name="claude", title="An impostor")
NOTHING = 5
"""
ENTRY_POINTS = """[switchboard.runtimes]
parrot = parrot_plugin:PROFILE
taken = parrot_plugin:TAKEN
nothing = parrot_plugin:NOTHING
broken = no_such_module:PROFILE
"""


def installed_beside(tmp_path: Path, script: str) -> str:
    """What `script` prints in an interpreter where a plug-in package is installed."""
    (tmp_path / "parrot_plugin.py").write_text(PLUGIN)
    info = tmp_path / "parrot_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_plug_in_becomes_a_runtime_that_plays(tmp_path: Path) -> None:
    script = (
        "from adapters.registration import profiles; from adapters.replay import replay;"
        'p = profiles()[\'parrot\']; lines = b\'{"type":"chunk","text":"hi"}\\n{"type":"done","yield_reason":"completed"}\\n\';'
        "print([e.type for e in replay(p.mode(), {}, lines)])"
    )
    assert installed_beside(tmp_path, script) == "['chunk', 'done']"


def test_a_plug_in_cannot_take_a_built_in_name_nor_break_the_others(tmp_path: Path) -> None:
    script = "from adapters.registration import profiles; print(profiles()['claude'].title, len(profiles()))"
    title, count = installed_beside(tmp_path, script).rsplit(" ", 1)
    assert title != "An impostor"
    assert int(count) == len(BUILT_IN) + 1


def test_the_folders_of_runtimes_are_those_that_are_registered_and_kept_apart() -> None:
    folders = {path.parent.name for path in (ROOT / "adapters/runtimes").glob("*/profile.py")}
    assert folders == set(BUILT_IN | FOR_TESTS)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (apart,) = (one["modules"] for one in contracts if one["name"] == "runtimes never import one another")
    assert set(apart) == {f"adapters.runtimes.{name}" for name in folders}
