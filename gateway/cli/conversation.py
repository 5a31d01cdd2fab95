"""`switchboard sessions create`, `send`, `steer`, `interrupt`, `attach`, `result`, `logs`, `archive`: a caller's side.

They act for the caller whose token is found (`--token`, SWITCHBOARD_TOKEN, switchboard.toml), or for nobody in particular,
which is all a public agent asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.fields import limit
from gateway.cli.output import Output
from gateway.cli.sessions import print_event, sessions
from gateway.cli.shell import as_caller
from gateway.cli.talk import prompt_of
from gateway.errors import UsageError

if TYPE_CHECKING:
    from gateway.cli.session_api import SessionApi

ID = "0b1c"
WAIT = 60  # seconds, at most, of one request


@sessions.command(
    "create",
    examples=(
        'switchboard sessions create mailer "Summarise this" --context notes.md --metadata ticket=4711',
        "switchboard sessions create -f dispatch.yaml --json",
    ),
)
@click.argument("agent", metavar="[NAME]", required=False)
@click.argument("prompt", required=False)
@click.option("-f", "--from", "source", metavar="FILE", help="Take all this from a YAML file; options go before it.")
@click.option("--context", multiple=True, metavar="PATH", help="Give the agent the text of a file, and its path.")
@click.option("--mention", multiple=True, metavar="PATH[:N-M]", help="Have the agent look at a file, or at some lines of it.")
@click.option("--file", multiple=True, metavar="PATH", help="Put a file into the agent's inbox.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Kept with the session; webhooks are told it.")
@click.option("--limit", multiple=True, metavar="NAME=N", help="What the session may use: see specs/limits.md.")
@click.option("--idempotency-key", metavar="KEY", help="Create it once, however often this is said.")
@as_caller
def create(out: Output, api: SessionApi, agent: str | None, prompt: str | None, source: str | None, **options: Any) -> None:
    """Begin a session with its first message."""
    body = _body(agent, prompt, source, **options)
    result = api.create(body)
    if out.json:
        return out.data(result)
    attach = f"switchboard sessions attach {result['id']}"
    return out.done(f"Session {result['id']} of {result['agent']} has begun.", attach)


@sessions.command(
    "send",
    examples=(f'switchboard sessions send {ID} "And the week before?"', f"git diff | switchboard sessions send {ID} -"),
)
@click.argument("id")
@click.argument("text", required=False)
@click.option(
    "--mode",
    type=click.Choice(("auto", "queue", "steer")),
    default="auto",
    show_default=True,
    help="Where a turn runs: join it if possible, wait for a turn of its own, or join it or be refused.",
)
@click.option("--idempotency-key", metavar="KEY", help="Send it once, however often this is said.")
@as_caller
def send(out: Output, api: SessionApi, id: str, text: str | None, mode: str, idempotency_key: str | None) -> None:
    """Say something in a session; where the agent asked, it is the answer."""
    _sent(out, id, api.send(id, prompt_of(text), mode, idempotency_key))


@sessions.command(
    "steer", examples=(f'switchboard sessions steer {ID} "Only this year"', f'switchboard sessions steer {ID} "Stop" --json')
)
@click.argument("id")
@click.argument("text", required=False)
@as_caller
def steer(out: Output, api: SessionApi, id: str, text: str | None) -> None:
    """Tell the agent something while it works; refused where nothing runs."""
    _sent(out, id, api.send(id, prompt_of(text), "steer"))


@sessions.command("interrupt", examples=(f"switchboard sessions interrupt {ID}", f"switchboard sessions interrupt {ID} --json"))
@click.argument("id")
@as_caller
def interrupt(out: Output, api: SessionApi, id: str) -> None:
    """End the turn that runs; the session and what waits in it go on."""
    result = api.post(id, "interrupt")
    if out.json:
        return out.data(result)
    return out.done(f"Interrupted {result['turn_id']}.", f'switchboard sessions send {id} "…"')


@sessions.command(
    "attach", examples=(f"switchboard sessions attach {ID}", f'echo "Go on" | switchboard sessions attach {ID} --no-replay')
)
@click.argument("id")
@click.option("--after", type=click.IntRange(0), help="Only what came after this event.")
@click.option("--no-replay", is_flag=True, help="Only what comes from now on.")
@as_caller
def attach(out: Output, api: SessionApi, id: str, after: int | None, no_replay: bool) -> int:
    """Follow a session in the terminal, and talk to it.

    A line is a message; /steer TEXT joins what runs, /interrupt ends it. Ctrl-C interrupts, twice detaches; so does
    Ctrl-D. A broken connection is taken up again. Without a terminal it ends when the session rests; exit code 3 says
    that the last turn failed.
    """
    from gateway.cli.attach import Attached

    seq = api.get(id)["seq"]
    return Attached(out, api, id, seq if no_replay else after or 0).run()


@sessions.command("result", examples=(f"switchboard sessions result {ID} --wait", f"switchboard sessions result {ID} --json"))
@click.argument("id")
@click.option("--wait", is_flag=True, help="Wait until the session rests.")
@as_caller
def result(out: Output, api: SessionApi, id: str, wait: bool) -> int:
    """Print what came of the last turn. Exit code 3 says that it failed."""
    from gateway.cli.transcript import exit_of

    found = api.get(id, "result", wait=WAIT if wait else None)
    while wait and found["status"] in ("queued", "running"):
        found = api.get(id, "result", wait=WAIT)
    if out.json:
        out.data(found)
    else:
        _print_result(out, id, found)
    return exit_of(found["turn"]["yield_reason"]) if found["turn"] else 0


@sessions.command(
    "logs", examples=(f"switchboard sessions logs {ID} --follow", f"switchboard sessions logs {ID} --json > {ID}.jsonl")
)
@click.argument("id")
@click.option("--after", type=click.IntRange(0), default=0, help="Only what came after this event.")
@click.option("--level", type=click.Choice(("user", "progress")), help="How much.  [default: progress]")
@click.option("--types", metavar="A,B", help="Only events of these types.")
@click.option("--follow", is_flag=True, help="Wait for more, until Ctrl-C.")
@as_caller
def logs(out: Output, api: SessionApi, id: str, after: int, level: str | None, types: str | None, follow: bool) -> None:
    """Print a session's events, a line each."""
    from gateway.cli.session_api import Follow

    for event in Follow(api, id, after, level=level, types=types, live=follow):
        print_event(out, event)


@sessions.command("archive", examples=(f"switchboard sessions archive {ID}", f"switchboard sessions archive {ID} --json"))
@click.argument("id")
@as_caller
def archive(out: Output, api: SessionApi, id: str) -> None:
    """Make a session read-only for good."""
    result = api.post(id, "archive")
    if out.json:
        return out.data(result)
    return out.done(f"Session {id} is archived.", f"switchboard sessions logs {id}")


def _body(agent: str | None, prompt: str | None, source: str | None, **options: Any) -> dict[str, Any]:
    from gateway.cli import dispatch

    body = dispatch.load(Path(source)) if source else {}
    parts = [dispatch.context(path) for path in options["context"]]
    parts += [dispatch.mention(text) for text in options["mention"]]
    parts += [dispatch.attached(path) for path in options["file"]]
    if agent is not None:
        body["agent"] = agent
    if "agent" not in body:
        raise UsageError("No agent was given.", 'Write: switchboard sessions create NAME "…"')
    if prompt is not None or "input" not in body:
        body["input"] = prompt_of(prompt)
    if parts:
        said = body["input"] if isinstance(body["input"], list) else [{"text": body["input"]}]
        body["input"] = [*said, *parts]
    more: dict[str, Callable[[], Any]] = {
        "metadata": lambda: {**body.get("metadata", {}), **dispatch.pairs(options["metadata"], "--metadata")},
        "limits": lambda: {**body.get("limits", {}), **dict(map(limit, options["limit"]))},
    }
    for name, made in more.items():
        if value := made():
            body[name] = value
    key = options["idempotency_key"]
    return body | ({"idempotency_key": key} if key else {})


def _sent(out: Output, id: str, result: dict[str, Any]) -> None:
    if out.json:
        return out.data(result)
    said = "It joins the turn that runs." if result["delivery"] == "steered" else "It is queued."
    return out.done(said, f"switchboard sessions attach {id} --after {result['seq']}")


def _print_result(out: Output, id: str, found: dict[str, Any]) -> None:
    turn = found["turn"]
    if turn is None:
        return out.say(f"No turn has ended yet; the session is {found['status']}.")
    out.text(found["text"] if found["text"].endswith("\n") or not found["text"] else found["text"] + "\n")
    for artifact in found["artifacts"]:
        links = [part["url"] for part in artifact["parts"] if "url" in part]
        out.say(f"file {artifact['name']}{': ' if links else ''}{' '.join(links[:1])}")
    if found["question"]:
        out.say(f"? {found['question']}")
        return out.say(f'Answer with: switchboard sessions send {id} "…"')
    if turn["error"] is not None:
        return out.say(f"[{turn['yield_reason']}] {turn['error']['message']}")
    return None
