"""`switchboard sessions`: what agents did and are doing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import Output, one_line, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, as_either, as_owner

if TYPE_CHECKING:
    from gateway.cli.session_api import SessionApi

PAGE = 500
FOLLOW_SECONDS = 0.5


@click.group(
    "sessions",
    cls=Group,
    examples=("switchboard sessions list --agent mailer", "switchboard sessions events 0b1c --follow"),
)
def sessions() -> None:
    """Work with agents, and look at what they did and are doing.

    list, show, events and cancel are the owner's; with --token, or where there is no owner key, list, show and cancel are
    a caller's, as the others always are.
    """


@sessions.command(
    "list", examples=("switchboard sessions list --agent mailer", "switchboard sessions list --status running --json")
)
@click.option("--agent", metavar="NAME", help="Only of this agent.")
@click.option("--status", help="Only in this status.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--cursor", help="Where the last list ended.")
@as_either
def list_(out: Output, api: OwnerApi | SessionApi, **filters: Any) -> None:
    """List sessions, newest first: all as the owner, their own as a caller."""
    if not isinstance(api, OwnerApi):
        return _list_mine(out, api.get(**filters))
    result = api.call("sessions.list", **{name: value for name, value in filters.items() if value is not None})
    if out.json:
        return out.data(result)
    if not result["sessions"]:
        return out.say('No sessions. Start one: switchboard call NAME "…"')
    rows = [
        (s["id"], s["agent"], s.get("version"), s["status"], s.get("turns"), when(s.get("updated_at")), s.get("title"))
        for s in result["sessions"]
    ]
    out.table(("ID", "AGENT", "VERSION", "STATUS", "TURNS", "UPDATED", "TITLE"), rows)
    if result.get("next"):
        out.say(f"More: switchboard sessions list --cursor {result['next']}")
    return None


@sessions.command("show", examples=("switchboard sessions show 0b1c", "switchboard sessions show 0b1c --json"))
@click.argument("id")
@as_either
def show(out: Output, api: OwnerApi | SessionApi, id: str) -> None:
    """Show a session; as the owner with its tasks and turns."""
    result = api.call("sessions.show", id=id) if isinstance(api, OwnerApi) else api.get(id)
    if out.json:
        return out.data(result)
    facts = [
        (key, when(value) if key.endswith("_at") else value) for key, value in result.items() if key not in ("tasks", "turns")
    ]
    out.table(("FIELD", "VALUE"), facts)
    tasks = [(t["id"], t["state"], when(t.get("created_at")), when(t.get("updated_at"))) for t in result.get("tasks") or []]
    _part(out, ("TASK", "STATE", "CREATED", "UPDATED"), tasks)
    turns = [
        (
            t["id"],
            t.get("task_id"),
            t["state"],
            t.get("attempt"),
            when(t.get("started_at")),
            when(t.get("ended_at")),
            _ending(t),
        )
        for t in result.get("turns") or []
    ]
    _part(out, ("TURN", "TASK", "STATE", "ATTEMPT", "STARTED", "ENDED", "HOW IT ENDED"), turns)
    return None


@sessions.command(
    "events", examples=("switchboard sessions events 0b1c --follow", "switchboard sessions events 0b1c --after 12.0 --json")
)
@click.argument("id")
@click.option("--after", metavar="SEQ.SUB", help="Only what came after this event.")
@click.option(
    "--level", type=click.Choice(("user", "progress", "internal")), help="How much; internal is all.  [default: internal]"
)
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@as_owner
def events(out: Output, api: OwnerApi, id: str, after: str | None, level: str | None, follow: bool) -> None:
    """Print the events of a session, a line each."""
    options = {"level": level} if level else {}
    while True:
        page = api.call("sessions.events", id=id, limit=PAGE, **options, **({"after": after} if after else {}))
        for event in page["events"]:
            print_event(out, event)
        moved = bool(page["events"]) and page.get("next") not in (None, after)
        after = page.get("next") or after
        if not moved and not follow:
            break
        if not moved:
            time.sleep(FOLLOW_SECONDS)
    if out.json:
        out.line({"result": {"id": id, "next": after}})


@sessions.command("cancel", examples=("switchboard sessions cancel 0b1c", "switchboard sessions cancel 0b1c --json"))
@click.argument("id")
@as_either
def cancel(out: Output, api: OwnerApi | SessionApi, id: str) -> None:
    """Cancel whatever runs in a session."""
    result = api.call("sessions.cancel", id=id) if isinstance(api, OwnerApi) else api.post(id, "cancel")
    if out.json:
        return out.data(result)
    tasks = result.get("canceled") or result.get("tasks") or []
    return out.done(f"Canceled: {', '.join(tasks)}" if tasks else "Nothing was running.", f"switchboard sessions show {id}")


def _list_mine(out: Output, result: dict[str, Any]) -> None:
    if out.json:
        return out.data(result)
    if not result["sessions"]:
        return out.say('No sessions. Start one: switchboard sessions create NAME "…"')
    rows = [(s["id"], s["agent"], s["status"], when(s["updated_at"]), s["metadata"]) for s in result["sessions"]]
    out.table(("ID", "AGENT", "STATUS", "UPDATED", "METADATA"), rows)
    if result["next"]:
        out.say(f"More: switchboard sessions list --cursor {result['next']}")
    return None


def _part(out: Output, headers: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if rows:
        print()
        out.table(headers, rows)


def _ending(turn: dict[str, Any]) -> str:
    reason, error = turn.get("yield_reason"), turn.get("error")
    if isinstance(error, dict):
        error = error.get("message") or error.get("category")
    return ": ".join(str(part) for part in (reason, error) if part)


def print_event(out: Output, event: dict[str, Any]) -> None:
    if out.json:
        return out.line(event)
    place = f"{event['seq']}.{event['sub']}" if "sub" in event else str(event["seq"])
    print(
        f"{place:>8}  {when(event.get('created_at'))}  {event['type']:<15} {_gist(event.get('body') or {})}".rstrip(),
        flush=True,
    )
    return None


def _gist(body: dict[str, Any]) -> str:
    """The body's most telling entry, else all of it."""
    texts = [part["text"] for part in body.get("parts") or [] if isinstance(part.get("text"), str)]
    if texts:
        return one_line(" ".join(texts))
    for key in ("text", "title", "question", "output", "line", "yield_reason"):
        if isinstance(body.get(key), str) and body[key]:
            return one_line(body[key])
    return one_line(json.dumps(body, ensure_ascii=False)) if body else ""
