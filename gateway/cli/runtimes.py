"""`switchboard runtimes`: what agents can run on."""

from __future__ import annotations

import subprocess
from typing import Any

import click

from gateway.cli.output import Output
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, as_owner, flush, module_command


@click.group("runtimes", cls=Group, examples=("switchboard runtimes list", "switchboard runtimes check claude"))
def runtimes() -> None:
    """Look at what agents can run on."""


@runtimes.command("list", examples=("switchboard runtimes list", "switchboard runtimes list --json"))
@as_owner
def list_(out: Output, api: OwnerApi) -> None:
    """List the runtimes the gateway knows, installed or not."""
    result = api.call("runtimes.list")
    if out.json:
        return out.data(result)
    rows = [
        (r["name"], r.get("title"), _installed(r), r.get("default_model"), _modes(r), ", ".join(r.get("providers") or []))
        for r in result["runtimes"]
    ]
    return out.table(("NAME", "TITLE", "INSTALLED", "DEFAULT MODEL", "MODES", "PROVIDERS"), rows)


@runtimes.command("check", examples=("switchboard runtimes check claude", "switchboard runtimes check claude --json"))
@click.argument("name")
@as_owner
def check(out: Output, api: OwnerApi, name: str) -> int:
    """Check that a runtime can be started; exit code 1 if it cannot."""
    result = api.call("runtimes.check", name=name)
    if out.json:
        out.data(result)
    else:
        show_checks(out, result["checks"])
    return 0 if result["ok"] else 1


@runtimes.command(
    "replay",
    context_settings={"ignore_unknown_options": True},
    options_metavar="RUNTIME [--mode MODE] --meta FILE.meta.json FILE.stdout.jsonl",
    examples=(
        "switchboard runtimes replay claude --meta hello.meta.json hello.stdout.jsonl",
        "switchboard runtimes replay codex --mode exec --meta hello.meta.json hello.stdout.jsonl",
    ),
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def replay(arguments: tuple[str, ...]) -> int:
    """Feed the recording of a runtime's output through its dialogue and print the events, as JSON Lines.

    Works without a gateway. --mode chooses the way of speaking to the runtime, --meta the recording's second file.
    """
    flush()
    command = [*module_command("adapters.replay"), *(word for word in arguments if word != "--json")]  # it prints nothing else
    return subprocess.run(command, check=False).returncode


def show_checks(out: Output, checks: list[dict[str, Any]]) -> None:
    """Each check, its result and the fix."""
    rows = [(_mark(check), check["name"], check.get("result"), check.get("fix")) for check in checks]
    out.table(("", "CHECK", "RESULT", "FIX"), rows)


def _mark(check: dict[str, Any]) -> str:
    """A check that is not required is advice."""
    if check["ok"]:
        return "ok"
    return "FAILED" if check.get("required", True) else "note"


def _installed(runtime: dict[str, Any]) -> str:
    return str(runtime.get("version") or "yes") if runtime.get("installed") else "no"


def _modes(runtime: dict[str, Any]) -> str:
    names = [mode["name"] if isinstance(mode, dict) else str(mode) for mode in runtime.get("modes") or []]
    return ", ".join(f"{name}*" if name == runtime.get("default_mode") and len(names) > 1 else name for name in names)
