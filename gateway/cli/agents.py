"""`switchboard agent`: create, look at and change agents."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli.fields import fields_of
from gateway.cli.output import Output, one_line, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, agreed, as_owner
from gateway.errors import InvalidParams, UsageError

# The CLI is a client and knows no registry; a test compares this with its rules.
LIMITS = (
    "turn_seconds, stall_seconds, turn_attempts, max_turns, tool_calls, output_bytes, turn_tokens, turn_cost_usd, "
    "session_turns, session_tokens, session_cost_usd, running_turns, caller_sessions, disk_mb, memory_mb, cpus, pids"
)
HOOKS = "pre_init, post_init, sidecar, post_run"
PLACEMENTS = ("local", "sandboxed", "docker")
RUNTIME = ("--runtime", "--runtime-type", "runtime")


@click.group(
    "agent",
    cls=Group,
    examples=("switchboard agent quick mailer --runtime claude", "switchboard agent show mailer"),
)
def agent() -> None:
    """Create, look at and change agents."""


def make_up(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that `quick` and `update` share."""
    options = (
        click.option("--model", metavar="PROVIDER/MODEL", help="Which model the runtime drives."),
        click.option("--prompt", metavar="TEXT", help="Instructions the agent always follows."),
        click.option("--mode", help="Which way of speaking to the runtime; see: switchboard runtimes list."),
        click.option("--description", metavar="TEXT", help="What callers read on the agent's card."),
        click.option("--tag", multiple=True, metavar="TAG", help="A tag callers find it by; give it again for more."),
        click.option("--documentation-url", metavar="URL", help="Where callers can read more; stands on the card."),
        click.option("--icon-url", metavar="URL", help="A picture of the agent; stands on the card."),
        click.option("--command", metavar="COMMANDLINE", help="What to start, for a runtime that brings no program."),
        click.option("--env", multiple=True, metavar="K=V", help="A variable for the runtime; K alone takes it from here."),
        click.option("--limit", multiple=True, metavar="NAME=N", help=f"What it may use. Names: {LIMITS}."),
        click.option("--placement", type=click.Choice(PLACEMENTS), help="Where it runs: see specs/placement.md."),
        click.option(
            "--egress", metavar="all|none|HOST,...", help="What it reaches from a sandbox or container: see specs/egress.md."
        ),
        click.option("--egress-mode", type=click.Choice(["strict", "audit"]), help="Refuse other hosts, or only log them."),
        click.option(
            "--git", metavar="URL", help="A repository to check out into each session's workspace: see specs/hooks.md."
        ),
        click.option("--git-ref", metavar="REF", help="Its branch, tag or commit."),
        click.option("--git-depth", type=int, metavar="N", help="Only so many commits of it."),
        click.option("--git-submodules", is_flag=True, default=None, help="Its submodules, too."),
        click.option("--git-user", metavar="NAME", help="Who fetches it, if it is private; git unless given."),
        click.option(
            "--git-password",
            metavar="VARIABLE",
            help="The variable here that holds its password or token; goes with --git.",
        ),
        click.option("--hook", multiple=True, metavar="NAME=CMD", help=f"A command around the runtime. Names: {HOOKS}."),
        click.option("--hook-seconds", multiple=True, metavar="NAME=N", help="How long that hook may take; 300 unless given."),
        click.option("--work-dir", metavar="PATH", help="A folder of the workspace in which it starts."),
        click.option("--mount", multiple=True, metavar="SOURCE:TARGET[:rw]", help="A directory of the machine it sees."),
        click.option(
            "--volume", multiple=True, metavar="NAME:TARGET", help="A directory kept for it, which its sessions share."
        ),
        click.option("--public/--private", default=None, help="Open to everybody, or only to callers who sign in."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@agent.command(
    "quick",
    examples=(
        "switchboard agent quick mailer --runtime claude",
        'switchboard agent quick poet --runtime codex --model openai/gpt-5 --prompt "Answer in verse."',
    ),
)
@click.argument("name")
@click.option(*RUNTIME, required=True, help="What the agent runs on; see: switchboard runtimes list.")
@make_up
@as_owner
def quick(out: Output, api: OwnerApi, name: str, runtime: str, **options: Any) -> None:
    """Create an agent in one line.

    Whatever is not given gets a sensible default.
    """
    _created(out, api, api.call("agent.create", name=name, runtime=runtime, quick=True, **fields_of(options)))


@agent.command(
    "create", examples=("switchboard agent create -f mailer.yaml", "cat mailer.yaml | switchboard agent create -f -")
)
@click.option(
    "-f", "--file", "file", required=True, metavar="FILE", help="YAML with the agent's fields; - reads standard input."
)
@as_owner
def create(out: Output, api: OwnerApi, file: str) -> None:
    """Create an agent from a file."""
    _created(out, api, api.call("agent.create", **_read(file)))


@agent.command("list", examples=("switchboard agent list", "switchboard agent list --json"))
@as_owner
def list_(out: Output, api: OwnerApi) -> None:
    """List the agents."""
    result = api.call("agent.list")
    if out.json:
        out.data(result)
    elif not result["agents"]:
        out.say("No agents yet. Create one: switchboard agent quick NAME --runtime claude")
    else:
        rows = [
            (
                a["name"],
                a["runtime"],
                a.get("model"),
                a["version"],
                when(a.get("updated_at")),
                a.get("url"),
                a.get("description"),
            )
            for a in result["agents"]
        ]
        out.table(("NAME", "RUNTIME", "MODEL", "VERSION", "UPDATED", "URL", "DESCRIPTION"), rows)


@agent.command("show", examples=("switchboard agent show mailer", "switchboard agent show mailer --json"))
@click.argument("name")
@as_owner
def show(out: Output, api: OwnerApi, name: str) -> None:
    """Show every field of an agent and where its value came from."""
    result = api.call("agent.show", name=name)
    if out.json:
        return out.data(result)
    head = [
        (key, when(result[key]) if key.endswith("_at") else result[key], "") for key in result if key not in ("values", "name")
    ]
    fields = [(field, entry.get("value"), entry.get("source")) for field, entry in result["values"].items()]
    rows = [("name", result["name"], ""), *head, *(row for row in fields if row[0] != "name")]
    return out.table(("FIELD", "VALUE", "WHERE IT CAME FROM"), [(f, _fit(value), source) for f, value, source in rows])


@agent.command(
    "update",
    examples=(
        "switchboard agent update mailer --runtime codex --model openai/gpt-5",
        "switchboard agent update mailer --hook 'pre_init=npm ci' --hook-seconds pre_init=900",
    ),
)
@click.argument("name")
@click.option(*RUNTIME, help="What the agent runs on; see: switchboard runtimes list.")
@make_up
@click.option(
    "--unset", multiple=True, metavar="FIELD", help="Back to the default; env.K takes away one variable, limits.K one limit."
)
@click.option("-f", "--file", "file", metavar="FILE", help="YAML with the fields to change; - reads standard input.")
@click.option("--if-version", type=int, metavar="N", help="Only if the agent is still at this version.")
@as_owner
def update(
    out: Output,
    api: OwnerApi,
    name: str,
    unset: tuple[str, ...],
    file: str | None,
    if_version: int | None,
    **options: Any,
) -> None:
    """Change an agent; every change makes a new version."""
    changes = _changes(name, file, options, unset)
    if not changes:
        raise UsageError(f"Nothing to change in agent {name!r}.", "Name a field, as in: --model openai/gpt-5")
    condition = {} if if_version is None else {"if_version": if_version}
    result = api.call("agent.update", name=name, changes=changes, **condition)
    if out.json:
        return out.data(result)
    _warn(out, result)
    lines = [f"  {field}: {_change(change)}" for field, change in result["changed"].items()] or ["  Nothing changed."]
    return out.done("\n".join([f"Agent {name!r} is at version {result['version']}.", *lines]), f'switchboard call {name} "…"')


@agent.command("delete", examples=("switchboard agent delete mailer", "switchboard agent delete mailer --yes"))
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_owner
def delete(out: Output, api: OwnerApi, name: str, yes: bool) -> int | None:
    """Delete an agent."""
    if not yes and not agreed(out, f"Delete agent {name!r}?", "deleted", f"switchboard agent delete {name} --yes"):
        return 1
    result = api.call("agent.delete", name=name)
    if out.json:
        out.data(result)
    else:
        out.done(f"Agent {name!r} was deleted.", "switchboard agent list")
    return None


@agent.command("versions", examples=("switchboard agent versions mailer", "switchboard agent versions mailer --json"))
@click.argument("name")
@as_owner
def versions(out: Output, api: OwnerApi, name: str) -> None:
    """List the versions of an agent and what changed in each."""
    result = api.call("agent.versions", name=name)
    if out.json:
        return out.data(result)
    rows = [
        (v["version"], when(v.get("created_at")), v.get("runtime"), v.get("model"), ", ".join(v.get("changed") or []))
        for v in result["versions"]
    ]
    return out.table(("VERSION", "CREATED", "RUNTIME", "MODEL", "CHANGED"), rows)


@agent.command("card", examples=("switchboard agent card mailer", "switchboard agent card mailer > card.json"))
@click.argument("name")
@as_owner
def card(out: Output, api: OwnerApi, name: str) -> None:
    """Print the public card of an agent, as callers get it."""
    out.data(api.call("agent.card", name=name))


def _created(out: Output, api: OwnerApi, made: dict[str, Any]) -> None:
    if out.json:
        return out.data(made)
    name = made["name"]
    _warn(out, made)
    url = made.get("url") or f"{api.url.value}/agents/{name}"
    lines = f"Agent {name!r} was created (version {made.get('version', 1)}, runtime {made.get('runtime')}).\n  {url}"
    return out.done(lines, f'switchboard call {name} "Hello"')


def _warn(out: Output, result: dict[str, Any]) -> None:
    for warning in result.get("warnings") or []:
        out.warn(str(warning))


def _changes(name: str, file: str | None, options: dict[str, Any], unset: tuple[str, ...]) -> dict[str, Any]:
    changes = _read(file) if file else {}
    if changes.pop("name", name) != name:
        raise UsageError(f"The file {file!r} describes another agent than {name!r}.", "An agent's name cannot be changed.")
    changes |= fields_of(options)
    for field in unset:
        name, dot, entry = field.partition(".")
        changes[name] = (changes.get(name) or {}) | {entry: None} if dot else None
    return changes


def _read(file: str) -> dict[str, Any]:
    import yaml

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        fields = yaml.safe_load(text)
        json.dumps(fields, allow_nan=False)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as exc:  # TypeError: a date, which YAML has and JSON has not
        raise InvalidParams(f"{file!r} cannot be used: {exc}.", "Mend the file and run the command again.") from exc
    if not isinstance(fields, dict):
        raise InvalidParams(f"{file!r} holds no agent: {fields!r}.", "Write its fields, as in: name: mailer")
    return {str(name): value for name, value in fields.items()}


def _fit(value: Any, room: int = 100) -> str:
    text = one_line(value)
    return text if len(text) <= room else text[: room - 1] + "…"


def _change(change: Any) -> str:
    if isinstance(change, dict) and "new" in change:
        return f"{_fit(change.get('old'))} → {_fit(change['new'])}"
    return _fit(change)
