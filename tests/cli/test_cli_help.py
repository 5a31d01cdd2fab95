"""Every command's help opens with two examples, and the examples parse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from gateway.cli.agents import LIMITS
from gateway.cli.main import cli, main
from gateway.settings import Settings
from registry import rules
from tests.cli.cli_fake import ROOT


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, child in command.commands.items() if isinstance(command, click.Group) else ():
        yield from tree(child, (*path, name))


COMMANDS = list(tree(cli))
each = pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) or "switchboard" for path, _ in COMMANDS])


@each
def test_help_opens_with_two_examples(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "-h"]) == 0
    out, err = capsys.readouterr()
    first, *examples = out.splitlines()[:3]
    assert (first, err) == ("Examples:", "")
    assert all("switchboard " in example for example in examples)
    assert f"Usage: {' '.join(['switchboard', *path])} " in out
    assert main([*path, "--help"]) == 0
    assert capsys.readouterr().out == out


@each
def test_examples_parse(path: tuple[str, ...], command: click.Command) -> None:
    examples = command.examples  # type: ignore[attr-defined]
    assert len(examples) == 2
    for example in examples:
        words = shlex.split(example.rpartition("| ")[2].partition(" > ")[0])
        assert words[: len(path) + 1] == ["switchboard", *path]
        parse(cli, words[1:])


def parse(command: click.Command, words: list[str]) -> None:
    if isinstance(command, click.Group):
        parse(command.commands[words[0]], words[1:])
    else:
        command.make_context("switchboard", words, help_option_names=["-h"])


@each
def test_every_command_and_option_is_described(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    ctx = click.Context(command, info_name="switchboard")
    assert [p.name for p in command.get_params(ctx) if isinstance(p, click.Option) and not p.help] == []


def test_serve_has_an_option_for_every_setting() -> None:
    serve = cli.commands["serve"]
    flags = {flag for param in serve.get_params(click.Context(serve)) for flag in param.opts if flag.startswith("--")}
    assert flags - {"--help"} == {f"--{name.replace('_', '-')}" for name in Settings.model_fields}


def test_an_option_of_serve_names_the_unit_of_its_setting() -> None:
    serve = cli.commands["serve"]
    told = {param.name: param.metavar for param in serve.get_params(click.Context(serve)) if isinstance(param, click.Option)}
    expected = {
        "turn_seconds": "SECONDS",
        "send_timeout": "SECONDS",
        "idempotency_hours": "HOURS",
        "retention_days": "DAYS",
        "container_cpus": "N",
        "anonymous_requests_per_minute": "N",
        "anonymous_listing": "BOOLEAN",
        "archive_dir": "PATH",
        "log_level": "TEXT",
    }
    assert {name: told[name] for name in expected} == expected


def test_worker_offers_nothing_that_is_for_those_who_answer() -> None:
    serve, worker = (
        {param.name for param in cli.commands[name].get_params(click.Context(cli.commands[name]))}
        for name in ("serve", "worker")
    )
    assert serve - worker == {"host", "port", "grpc_port", "worker"}
    assert worker < serve


CALLERS_SESSIONS = ("create", "send", "steer", "interrupt", "attach", "result", "logs", "archive")


def test_the_verbs_are_the_documented_ones() -> None:
    nouns = {name: set(c.commands) if isinstance(c, click.Group) else set() for name, c in cli.commands.items()}
    assert nouns == {
        "serve": set(),
        "worker": set(),
        "agent": {"quick", "create", "list", "show", "update", "delete", "versions", "card"},
        "callers": {"add", "list", "rotate", "revoke"},
        "call": set(),
        "chat": set(),
        "sessions": {"list", "show", "events", "cancel", "export", "import", *CALLERS_SESSIONS},
        "webhooks": {"list", "deliveries", "redeliver", "test"},
        "runtimes": {"list", "check", "push", "versions", "rollback", "deprecate", "replay", "build"},
        "keys": {"list", "rotate"},
        "doctor": set(),
    }


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "switchboard"


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_next_to_nothing() -> None:
    heavy = {"sqlalchemy", "sqlmodel", "a2a", "adapters", "registry", "pydantic", "pydantic_settings", "typer", "rich"}
    heavy |= {"httpx", "httpx2", "yaml", "starlette", "anyio", "asyncio", "platformdirs"}
    assert imported_by("from gateway.cli.main import main; main(['agent', '-h'])") & heavy == set()


def test_no_command_imports_a_database_adapters_or_the_sdk() -> None:
    modules = [f"gateway.cli.{path.stem}" for path in (ROOT / "gateway" / "cli").glob("[!_]*.py")]
    code = f"import {', '.join(modules)}\nfrom gateway.cli.main import main\n"
    code += "main(['serve', '-h']); main(['call', 'a', 'b', '--url', 'http://127.0.0.1:1'])"
    assert imported_by(code) & {"sqlalchemy", "sqlmodel", "a2a", "adapters", "registry", "starlette"} == set()


def test_the_help_and_the_documentation_name_every_limit() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", (ROOT / "specs/limits.md").read_text("utf-8"), re.MULTILINE)
    assert LIMITS.split(", ") == documented == list(rules.LIMITS)
