"""`switchboard sessions export` and `import`: a session moved to another installation, as it was."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import click

from gateway.cli.output import Output
from gateway.cli.owner import OwnerApi
from gateway.cli.sessions import sessions
from gateway.cli.shell import as_owner
from gateway.errors import UsageError


@sessions.command(
    "export",
    examples=(
        "switchboard sessions export ses_0b1c > session.jsonl",
        "switchboard sessions export ses_0b1c -o FILE",
    ),
)
@click.argument("id")
@click.option("-o", "--output", type=click.File("wb", lazy=True), default="-", help="Where to.  [default: standard output]")
@click.option("--with-journal", is_flag=True, help="With its working directory and what its runtime remembers.")
@as_owner
def export(out: Output, api: OwnerApi, id: str, output: BinaryIO, with_journal: bool) -> None:
    """Write a session that rests, its whole log and its tasks, as JSON Lines."""
    params = {"journal": "true"} if with_journal else {}
    for piece in api.download(f"/owner/sessions/{id}/export", params):
        output.write(piece)
    output.flush()
    out.say(f"Next: switchboard sessions import {'FILE' if output is sys.stdout.buffer else output.name} --url URL")


@sessions.command(
    "import",
    examples=("switchboard sessions import session.jsonl", "switchboard sessions import session.jsonl --agent mailer --json"),
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--agent", metavar="NAME", help="Whose session it is here.  [default: the agent of the same name]")
@click.option("--principal", help="Which caller's it is here, such as anonymous or caller:cal_5d.  [default: as it was]")
@as_owner
def import_(out: Output, api: OwnerApi, file: str, **whose: Any) -> None:
    """Take in a session that was exported, with the same ids, numbers and times."""
    params = {name: value for name, value in whose.items() if value is not None}
    try:
        with click.open_file(file, "rb") as content:
            result = api.upload("/owner/sessions/import", params, content)
    except OSError as exc:
        raise UsageError(
            f"The file {file!r} cannot be read: {exc.strerror}.", "Name one that `switchboard sessions export` wrote."
        ) from exc
    if out.json:
        return out.data(result)
    return out.done(f"Session {result['id']} is here: {result['events']} events.", f"switchboard sessions show {result['id']}")
