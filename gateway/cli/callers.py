"""`switchboard callers`: who may call agents that are not public, and how much."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.output import Output, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, agreed, as_owner


@click.group(
    "callers",
    cls=Group,
    examples=("switchboard callers add shop --agent mailer", "switchboard callers list"),
)
def callers() -> None:
    """Say who may call agents that are not public, and how much."""


@callers.command(
    "add",
    examples=(
        "switchboard callers add shop",
        "switchboard callers add shop --agent mailer --per-minute 60 --running 4",
    ),
)
@click.argument("name")
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="Only this agent; give it once for each.")
@click.option("--per-minute", type=click.IntRange(1), metavar="N", help="At most so many requests in a minute.")
@click.option("--running", type=click.IntRange(1), metavar="N", help="At most so many tasks at work at the same time.")
@as_owner
def add(out: Output, api: OwnerApi, name: str, agents: tuple[str, ...], per_minute: int | None, running: int | None) -> None:
    """Register a caller and make its key, which is shown this once."""
    given = {"agents": list(agents) or None, "requests_per_minute": per_minute, "running_tasks": running}
    result = api.call("callers.add", name=name, **{key: value for key, value in given.items() if value is not None})
    _key(out, result, f"Caller {name!r} was added.")


@callers.command("list", examples=("switchboard callers list", "switchboard callers list --json"))
@as_owner
def list_(out: Output, api: OwnerApi) -> None:
    """List the callers, what they may call, and their limits."""
    result = api.call("callers.list")
    if out.json:
        return out.data(result)
    if not result["callers"]:
        return out.say("No callers yet. Add one: switchboard callers add NAME")
    rows = [
        (
            c["name"],
            "all" if c.get("agents") is None else ", ".join(c["agents"]),
            c.get("requests_per_minute"),
            c.get("running_tasks"),
            c.get("key_id"),
            when(c.get("rotated_at") or c.get("created_at")),
            c.get("principal"),
        )
        for c in result["callers"]
    ]
    return out.table(("NAME", "AGENTS", "PER MINUTE", "RUNNING", "KEY", "KEY MADE", "PRINCIPAL"), rows)


@callers.command("rotate", examples=("switchboard callers rotate shop", "switchboard callers rotate shop --json"))
@click.argument("name")
@as_owner
def rotate(out: Output, api: OwnerApi, name: str) -> None:
    """Make a new key for a caller; the old one stops at once."""
    _key(out, api.call("callers.rotate", name=name), f"Caller {name!r} has a new key; the old one is void.")


@callers.command("revoke", examples=("switchboard callers revoke shop", "switchboard callers revoke shop --yes"))
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_owner
def revoke(out: Output, api: OwnerApi, name: str, yes: bool) -> int | None:
    """Take a caller's key away for good."""
    if not yes and not agreed(out, f"Revoke caller {name!r}?", "revoked", f"switchboard callers revoke {name} --yes"):
        return 1
    result = api.call("callers.revoke", name=name)
    if out.json:
        out.data(result)
    else:
        out.done(f"Caller {name!r} was revoked.", "switchboard callers list")
    return None


def _key(out: Output, result: dict[str, Any], said: str) -> None:
    """The key alone on stdout, so that it can be caught in a variable; talk on stderr."""
    if out.json:
        return out.data(result)
    out.say(f"{said} This is its key; it is not shown again:")
    return out.done(result["key"], 'SWITCHBOARD_TOKEN=… switchboard call NAME "Hello"')
