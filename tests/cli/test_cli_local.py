"""What needs no gateway: `serve` becomes it, `runtimes replay` runs the adapters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.main import main
from gateway.cli.shell import module_command
from tests.cli.cli_fake import ROOT, shell

CASE = ROOT / "tests" / "golden" / "rehearsal" / "garbage_then_crash"
ARGUMENTS = ["rehearsal", "--meta", str(CASE / "meta.json"), str(CASE / "raw.jsonl")]


class Became(Exception):
    """Stands for the process that execve would have made of this one."""


def test_serve_becomes_the_gateway_with_its_options_as_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(path: str, argv: list[str], env: dict[str, str]) -> None:
        raise Became(path, argv, env)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("SWITCHBOARD_PORT", "1")
    monkeypatch.setenv("SWITCHBOARD_HOST", "0.0.0.0")
    with pytest.raises(Became) as became:
        main(["serve", "--port", "8123", "--data-dir", "data", "--log-json", "true"])
    path, argv, env = became.value.args
    assert (path, argv) == (sys.executable, [sys.executable, "-P", "-m", "gateway"])
    ours = {name: value for name, value in env.items() if name.startswith("SWITCHBOARD_")}
    assert ours == {
        "SWITCHBOARD_PORT": "8123",
        "SWITCHBOARD_HOST": "0.0.0.0",
        "SWITCHBOARD_DATA_DIR": "data",
        "SWITCHBOARD_LOG_JSON": "true",
    }
    assert env["PATH"] == os.environ["PATH"]


def test_a_bad_setting_is_named_as_it_was_given(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "-5"]) == 2
    assert "--port is '-5'" in capsys.readouterr().err
    monkeypatch.setenv("SWITCHBOARD_CONCURRENCY", "many")
    assert main(["serve"]) == 2
    assert "SWITCHBOARD_CONCURRENCY is 'many'" in capsys.readouterr().err


def test_a_module_of_ours_is_never_one_of_the_same_name_in_the_working_directory(home: Path) -> None:
    (home / "gateway").mkdir()
    (home / "gateway" / "__init__.py").write_text("raise SystemExit('the wrong gateway')")
    code = "import gateway; print(gateway.__file__)"
    command = [*module_command("gateway")[:-2], "-c", code]
    done = subprocess.run(command, env=shell(home).env, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == ROOT / "gateway" / "__init__.py"


def test_replay_passes_arguments_output_and_exit_code_through(home: Path) -> None:
    here = shell(home, SWITCHBOARD_URL="http://127.0.0.1:1")
    wanted = subprocess.run([sys.executable, "-m", "adapters.replay", *ARGUMENTS], cwd=ROOT, capture_output=True, check=True)
    done = here.run("runtimes", "replay", *ARGUMENTS)
    assert (done.returncode, done.stdout.encode(), done.stderr) == (0, wanted.stdout, "")
    with_mode = here.run("runtimes", "replay", "rehearsal", "--mode", "jsonl", "--json", *ARGUMENTS[1:])
    assert (with_mode.returncode, with_mode.stdout.encode()) == (0, wanted.stdout)


def test_replay_of_a_runtime_nobody_knows_exits_2(home: Path) -> None:
    done = shell(home).run("runtimes", "replay", "nonsense", *ARGUMENTS[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown runtime 'nonsense'" in done.stderr
