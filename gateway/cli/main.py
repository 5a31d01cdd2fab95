"""The `switchboard` command: a client of the gateway's APIs.

It imports click and little else until a command runs, so that help is instant; commands import what they need.
Exit codes: 0 done, 1 failed, 2 usage, 3 the turn itself failed, 4 sign in, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from gateway.cli import building, conversation, transfer  # noqa: F401  (commands of runtimes and of sessions)
from gateway.cli.agents import agent
from gateway.cli.callers import callers
from gateway.cli.doctor import doctor
from gateway.cli.keys import keys
from gateway.cli.output import Output, prepare
from gateway.cli.runtimes import runtimes
from gateway.cli.serve import serve, worker
from gateway.cli.sessions import sessions
from gateway.cli.shell import Group, flush
from gateway.cli.talk import CTRL_C, call, chat
from gateway.cli.webhooks import webhooks
from gateway.errors import SwitchboardError, UsageError


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("switchboard", version("a2a-switchboard"))
        except PackageNotFoundError:
            print("switchboard (not installed)")
        ctx.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples=("switchboard agent quick mailer --runtime claude", 'switchboard call mailer "Who wrote to me today?"'),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
def cli() -> None:
    """Publish agents as A2A endpoints and choose what they run on."""


for command in (serve, worker, agent, callers, call, chat, sessions, webhooks, runtimes, keys, doctor):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    out = Output()
    prepare(sys.stdout)
    prepare(sys.stderr)
    try:
        code = cli.main(argv, "switchboard", standalone_mode=False, obj=out) or 0
        flush()
    except SwitchboardError as exc:
        out.error(exc)
        return exc.codes.exit
    except click.ClickException as exc:
        return _misused(out, exc)
    except (click.Abort, KeyboardInterrupt):
        return CTRL_C
    except BrokenPipeError:  # as in `switchboard agent list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return int(code)


def _misused(out: Output, exc: click.ClickException) -> int:
    if out.json:
        out.error(UsageError(exc.format_message(), "See: switchboard -h"))
    else:
        exc.show()
    return exc.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
