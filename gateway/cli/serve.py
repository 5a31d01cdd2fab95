"""`switchboard serve` and `worker`: become the gateway, with the given options as its `SWITCHBOARD_*` environment.

Options and their help are made from `gateway.settings`, so that a setting without an option cannot be.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from gateway.cli.shell import Command, flush, module_command
from gateway.errors import UsageError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo


ANSWERING = ("host", "port", "grpc_port", "worker")  # settings that mean nothing to a process that answers nobody
UNITS = {"seconds": "SECONDS", "hours": "HOURS", "days": "DAYS", "timeout": "SECONDS"}  # by how a setting's name ends


class Serve(Command):
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*_options(), *super().get_params(ctx)]


class Work(Command):
    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*(option for option in _options() if option.name not in ANSWERING), *super().get_params(ctx)]


@click.command("serve", cls=Serve, examples=("switchboard serve", "switchboard serve --port 8080 --data-dir ./data"))
def serve(**options: str | None) -> None:
    """Run the gateway in this terminal; it runs turns too, unless --no-worker.

    Every option can also be set in the environment: --data-dir is SWITCHBOARD_DATA_DIR.
    """
    _become(module_command("gateway"), options)


@click.command("worker", cls=Work, examples=("switchboard worker --concurrency 32", "switchboard worker --data-dir /mnt/data"))
def worker(**options: str | None) -> None:
    """Run turns in this terminal, and answer nobody.

    It works for every gateway on the same database; it needs the same data directory, keys and settings as they have.
    """
    _become([*module_command("gateway"), "worker"], options)


def _become(command: list[str], options: dict[str, str | None]) -> None:
    given = {name: str(value) for name, value in options.items() if value is not None}
    _check(given)
    flush()
    os.execve(command[0], command, os.environ | {f"SWITCHBOARD_{name.upper()}": value for name, value in given.items()})


@cache
def _options() -> tuple[click.Parameter, ...]:
    from gateway.settings import Settings

    return tuple(_option(name, field) for name, field in Settings.model_fields.items())


def _option(name: str, field: FieldInfo) -> click.Option:
    if field.default is True:
        flags = f"{_flag(name)}/{_flag(name).replace('--', '--no-', 1)}"
        return click.Option([flags], default=None, help=_help(field))
    return click.Option([_flag(name)], metavar=_metavar(name, field), help=_help(field))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(name: str, field: FieldInfo) -> str:
    kinds = {*get_args(field.annotation)} or {field.annotation}
    if kinds & {int, float}:
        return UNITS.get(name.rpartition("_")[2], "N")
    return "PATH" if Path in kinds else "BOOLEAN" if bool in kinds else "TEXT"


def _help(field: FieldInfo) -> str:
    default = field.default
    shown = f"  [default: {default}]" if isinstance(default, (str, int, float)) and default != "" else ""
    return f"{field.description}{shown}"


def _check(given: dict[str, str]) -> None:
    """A value the gateway would refuse is refused here, where its flag can be named."""
    from pydantic import ValidationError

    from gateway.settings import Settings

    try:
        Settings(**given)  # type: ignore[arg-type]  # texts, as in the environment; pydantic makes what they mean of them
    except ValidationError as exc:
        raise _wrong(exc, given) from exc


def _wrong(exc: ValidationError, given: dict[str, str]) -> UsageError:
    problem = exc.errors()[0]
    name = str(problem["loc"][0])
    source = _flag(name) if name in given else f"SWITCHBOARD_{name.upper()}"
    return UsageError(f"{source} is {problem['input']!r}: {problem['msg']}.", "See: switchboard serve -h")
