"""How our commands look and what they share: help that opens with examples, `--url`, `--key`, `--json`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

import gateway
from gateway.cli.output import Output
from gateway.errors import UsageError

Function = Callable[..., "int | None"]


class _Examples:
    """A command whose help opens with its examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Examples:\n")
        for example in self.examples:
            formatter.write(f"  {example}\n")
        formatter.write("\n")
        super().format_help(ctx, formatter)  # type: ignore[misc]  # a mixin: click's class comes after it


class Command(_Examples, click.Command):
    pass


class Group(_Examples, click.Group):
    command_class = Command
    group_class = type


def as_json(function: Function) -> Function:
    """`--json`, and the Output it is noted on as first argument."""

    def note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Output).json |= value

    def command(*args: Any, **kwargs: Any) -> int | None:
        return function(click.get_current_context().ensure_object(Output), *args, **kwargs)

    option = click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, callback=note, help="Print what the API returns, as JSON."
    )
    return option(update_wrapper(command, function))


def with_url(function: Function) -> Function:
    return click.option("--url", metavar="URL", help="Where the gateway is. Also: SWITCHBOARD_URL, switchboard.toml.")(function)


def with_token(function: Function) -> Function:
    said = "A caller's key or token. Better: SWITCHBOARD_TOKEN, which no process list shows."
    return click.option("--token", metavar="TOKEN", help=said)(function)


def with_key(function: Function) -> Function:
    said = "The owner key. Better: SWITCHBOARD_OWNER_KEY, which no process list shows."
    return click.option("--key", metavar="KEY", help=said)(function)


def as_owner(function: Function) -> Function:
    """`--url`, `--key`, `--json`; the command gets an Output and an OwnerApi."""
    from gateway.cli.owner import OwnerApi

    def command(out: Output, *args: Any, url: str | None, key: str | None, **kwargs: Any) -> int | None:
        return function(out, OwnerApi(url, key), *args, **kwargs)

    return as_json(with_url(with_key(update_wrapper(command, function))))


def as_caller(function: Function) -> Function:
    """`--url`, `--token`, `--json`; the command gets an Output and a SessionApi."""

    def command(out: Output, *args: Any, url: str | None, token: str | None, **kwargs: Any) -> int | None:
        from gateway.cli.session_api import SessionApi

        return function(out, SessionApi(url, token, out.say), *args, **kwargs)

    return as_json(with_url(with_token(update_wrapper(command, function))))


def as_either(function: Function) -> Function:
    """As the owner where there is an owner key and no --token, else as a caller: with an OwnerApi or a SessionApi."""
    from gateway.cli.owner import OwnerApi

    def command(out: Output, *args: Any, url: str | None, key: str | None, token: str | None, **kwargs: Any) -> int | None:
        from gateway.cli.session_api import SessionApi

        owner = OwnerApi(url, key)
        api = SessionApi(url, token) if token or owner.key is None else owner
        return function(out, api, *args, **kwargs)

    return as_json(with_url(with_key(with_token(update_wrapper(command, function)))))


def module_command(module: str) -> list[str]:
    """Start one of our modules, not one of the same name that lies in the working directory."""
    root = Path(gateway.__path__[0]).parent
    safe = [] if Path.cwd() == root else ["-P"]
    return [sys.executable, *safe, "-m", module]


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def terminal() -> bool:
    """Is there somebody to ask?"""
    return os.isatty(0) and sys.stderr.isatty()


def agreed(out: Output, question: str, done: str, command: str) -> bool:
    """Whether somebody says yes. Raises UsageError, with the command that asks nothing, where nobody is there to ask."""
    if not terminal():
        raise UsageError(f"{question} Nobody is there to ask: nothing was {done}.", f"Run: {command}")
    if click.confirm(question, err=True):
        return True
    out.say(f"Nothing was {done}.")
    return False
