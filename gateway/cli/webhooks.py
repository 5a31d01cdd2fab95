"""`switchboard webhooks`: where events of tasks and sessions go, and what became of each delivery."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.output import Output, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, as_owner


@click.group("webhooks", cls=Group, examples=("switchboard webhooks list", "switchboard webhooks deliveries --state dead"))
def webhooks() -> None:
    """Look at webhooks and push notifications, try one, send a delivery again."""


@webhooks.command("list", examples=("switchboard webhooks list", "switchboard webhooks list --limit 10 --json"))
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last list ended.")
@as_owner
def list_(out: Output, api: OwnerApi, **filters: Any) -> None:
    """List where events of tasks and sessions go, newest first."""
    result = api.call("webhooks.list", **{name: value for name, value in filters.items() if value is not None})
    if out.json:
        return out.data(result)
    if not result["webhooks"]:
        return out.say("No webhooks. Callers add them to their tasks and sessions.")
    rows = [(w["id"], w["agent"], _of(w), when(w.get("created_at")), _counts(w), w["url"]) for w in result["webhooks"]]
    out.table(("ID", "AGENT", "TASK OR SESSION", "CREATED", "DELIVERIES", "URL"), rows)
    if result.get("next"):
        out.say(f"More: switchboard webhooks list --cursor {result['next']}")
    return None


@webhooks.command(
    "deliveries",
    examples=("switchboard webhooks deliveries --state dead", "switchboard webhooks deliveries --limit 10 --json"),
)
@click.option(
    "--state", type=click.Choice(("pending", "delivering", "delivered", "dead")), help="Only in this state; dead is given up."
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last list ended.")
@as_owner
def deliveries(out: Output, api: OwnerApi, **filters: Any) -> None:
    """List deliveries, newest first."""
    given = {name: value for name, value in filters.items() if value is not None}
    result = api.call("webhooks.deliveries", **given)
    if out.json:
        return out.data(result)
    if not result["deliveries"]:
        return out.say("No deliveries.")
    rows = [
        (
            d["id"],
            d["state"],
            d["attempts"],
            d["agent"],
            _of(d),
            when(d.get("created_at")),
            d["url"],
            d.get("error"),
        )
        for d in result["deliveries"]
    ]
    out.table(("ID", "STATE", "TRIES", "AGENT", "TASK OR SESSION", "CREATED", "URL", "ERROR"), rows)
    if result.get("next"):
        state = f" --state {given['state']}" if "state" in given else ""
        out.say(f"More: switchboard webhooks deliveries{state} --cursor {result['next']}")
    return None


@webhooks.command(
    "redeliver", examples=("switchboard webhooks redeliver dlv_0b1c", "switchboard webhooks redeliver dlv_0b1c --json")
)
@click.argument("id")
@as_owner
def redeliver(out: Output, api: OwnerApi, id: str) -> None:
    """Send a delivery again, with the same id."""
    result = api.call("webhooks.redeliver", id=id)
    if out.json:
        return out.data(result)
    return out.done(f"Delivery {id} is sent again.", "switchboard webhooks deliveries")


@webhooks.command("test", examples=("switchboard webhooks test dst_0b1c", "switchboard webhooks test dst_0b1c --json"))
@click.argument("id")
@as_owner
def test(out: Output, api: OwnerApi, id: str) -> int:
    """Post a ping to a webhook, signed as its deliveries are, and say what came of it."""
    result = api.call("webhooks.test", id=id)
    if out.json:
        out.data(result)
    elif result["ok"]:
        out.done(f"{result['url']} answered in {result['ms']} ms.")
    else:
        out.say(f"{result['url']} did not take it: {result['reason']}")
    return 0 if result["ok"] else 1


def _of(row: dict[str, Any]) -> str:
    return str(row["task_id"] or row["session_id"])


def _counts(webhook: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted((webhook.get("deliveries") or {}).items()))
