"""The README says what is so: its settings table, its runtimes, and the commands that need no server."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from adapters.registration import profiles
from gateway.settings import table

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_settings_table_is_the_generated_one() -> None:
    assert table() in README, "run: python -m gateway.settings"


def test_every_runtime_and_its_modes_are_told() -> None:
    for profile in profiles().values():
        modes = [name for name, mode in profile.modes.items() if mode.launch is not None]
        modes.sort(key=lambda name: name != profile.default_mode)
        assert f"| `{profile.name}` | {', '.join(modes)} |" in README


def test_the_replay_command_prints_events() -> None:
    line = next(line for line in README.splitlines() if "runtimes replay" in line and "--meta" in line)
    words = shlex.split(line)[1:]
    done = subprocess.run([sys.executable, "-m", "gateway.cli", *words], cwd=ROOT, capture_output=True, check=True)
    assert b'"type": "done"' in done.stdout.splitlines()[-1]


def test_the_files_it_names_are_there() -> None:
    for path in re.findall(r"\]\((specs/[^)]+)\)", README):
        assert (ROOT / path).is_file()
