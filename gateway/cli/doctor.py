"""`switchboard doctor`: each check, its result and the fix; the first ones are the command's own way to the gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.output import Output
from gateway.cli.owner import OwnerApi
from gateway.cli.runtimes import show_checks
from gateway.cli.shell import Command, as_owner
from gateway.errors import NotAllowed, SwitchboardError


@click.command("doctor", cls=Command, examples=("switchboard doctor", "switchboard doctor --json"))
@as_owner
def doctor(out: Output, api: OwnerApi) -> int:
    """Check that everything works; exit code 1 if something does not."""
    report = _report(api)
    if out.json:
        out.data(report)
    else:
        show_checks(out, report["checks"])
    return 0 if report["ok"] else 1


def _report(api: OwnerApi) -> dict[str, Any]:
    """What the gateway reports; where it cannot be asked, what stands in the way, in the same shape."""
    key = f"from {api.key.source}" if api.key else "none was found"
    try:
        report: dict[str, Any] = api.call("doctor")
    except SwitchboardError as exc:
        locked = exc.code == NotAllowed.code
        way = [
            _check(
                "gateway", locked, f"{api.url.value} ({api.url.source})" if locked else exc.message, "" if locked else exc.hint
            )
        ]
        way += [_check("owner key", False, exc.message, exc.hint)] if locked else []
        return {"ok": False, "checks": way}
    way = [_check("gateway", True, f"{api.url.value} ({api.url.source})"), _check("owner key", True, key)]
    return report | {"checks": [*way, *report["checks"]]}


def _check(name: str, ok: bool, result: str, fix: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "result": result, "fix": fix}
