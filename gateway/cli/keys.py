"""`switchboard keys`: the keys that sign agent cards."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.output import Output, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, as_owner


@click.group("keys", cls=Group, examples=("switchboard keys list", "switchboard keys rotate"))
def keys() -> None:
    """Look at the keys that sign agent cards, and rotate them."""


@keys.command("list", examples=("switchboard keys list", "switchboard keys list --json"))
@as_owner
def list_(out: Output, api: OwnerApi) -> None:
    """List the keys that callers can verify cards with."""
    _show(out, api.call("keys.list"))


@keys.command("rotate", examples=("switchboard keys rotate", "switchboard keys rotate --json"))
@as_owner
def rotate(out: Output, api: OwnerApi) -> None:
    """Sign cards with a new key from now on.

    The private half of the old key is gone; its public half stays published for SWITCHBOARD_RETIRED_KEY_DAYS.
    """
    result = api.call("keys.rotate")
    if not out.json:
        out.say("Cards are signed with a new key.")
    _show(out, result)


def _show(out: Output, result: dict[str, Any]) -> None:
    if out.json:
        return out.data(result)
    rows = [
        (key["kid"], key["signs"], when(key["created_at"]), when(key.get("retired_at")), when(key.get("published_until")))
        for key in result["keys"]
    ]
    return out.table(("KEY", "SIGNS", "CREATED", "RETIRED", "PUBLISHED UNTIL"), rows)
