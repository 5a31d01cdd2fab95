"""`switchboard runtimes`: what agents can run on."""

from __future__ import annotations

import subprocess
from typing import Any

import click

from gateway.cli.output import Output, when
from gateway.cli.owner import OwnerApi
from gateway.cli.shell import Group, as_owner, flush, module_command

KIT_SECONDS = 900.0  # an image is checked by playing turns on it


@click.group("runtimes", cls=Group, examples=("switchboard runtimes list", "switchboard runtimes push mine:1 --name mine"))
def runtimes() -> None:
    """Look at what agents can run on, and bring runtimes of your own as images."""


def _facts(command: Any) -> Any:
    """What an image can do, as its owner says."""
    options = (
        click.option("--providers", metavar="LIST", help="Model providers it can drive: openai, anthropic, google, ..."),
        click.option("--capabilities", metavar="LIST", help="What it can do beside: steer, mcp."),
        click.option("--env", "env", multiple=True, metavar="NAME", help="A variable its agents should have; once for each."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _given(providers: str | None, capabilities: str | None, env: tuple[str, ...]) -> dict[str, Any]:
    lists = {"providers": providers, "capabilities": capabilities, "env_names": ",".join(env) or None}
    return {name: [word for word in text.split(",") if word] for name, text in lists.items() if text is not None}


@runtimes.command("list", examples=("switchboard runtimes list", "switchboard runtimes list --json"))
@as_owner
def list_(out: Output, api: OwnerApi) -> None:
    """List the runtimes the gateway knows, installed or not, and those that were pushed."""
    result = api.call("runtimes.list")
    if out.json:
        return out.data(result)
    rows = [
        (r["name"], r.get("title"), _installed(r), r.get("default_model"), _modes(r), ", ".join(r.get("providers") or []))
        for r in result["runtimes"]
    ]
    return out.table(("NAME", "TITLE", "INSTALLED", "DEFAULT MODEL", "MODES", "PROVIDERS"), rows)


@runtimes.command(
    "check", examples=("switchboard runtimes check claude", "switchboard runtimes check mine:1 --providers openai")
)
@click.argument("name", metavar="NAME_OR_IMAGE")
@_facts
@as_owner
def check(out: Output, api: OwnerApi, name: str, providers: str | None, capabilities: str | None, env: tuple[str, ...]) -> int:
    """Check that a runtime can be started, or an image against the contract; exit code 1 if something falls short.

    An image is named with its tag or digest. It is checked by turns that are played on it, which takes about a minute.
    """
    result = api.wait_for("runtimes.check", KIT_SECONDS, {"name": name, **_given(providers, capabilities, env)})
    if out.json:
        out.data(result)
    else:
        show_checks(out, result["checks"])
    return 0 if result["ok"] else 1


@runtimes.command(
    "push",
    examples=(
        "switchboard runtimes push mine:1 --name mine --providers openai,anthropic --capabilities steer",
        "switchboard runtimes push registry.example.com/mine:2 --name mine --env GITHUB_TOKEN",
    ),
)
@click.argument("image")
@click.option("--name", required=True, help="What agents call the runtime.")
@_facts
@click.option("--unchecked", is_flag=True, help="Do not check it against the contract first.")
@as_owner
def push(
    out: Output,
    api: OwnerApi,
    image: str,
    name: str,
    providers: str | None,
    capabilities: str | None,
    env: tuple[str, ...],
    unchecked: bool,
) -> int:
    """Check an image and make it the version of a runtime that new sessions get.

    The image has to be on the gateway's container engine. Sessions that have begun keep the version they began with.
    """
    if not unchecked:
        out.say(f"Checking {image} against the contract, which takes about a minute ...")
    given = {"name": name, "image": image, **_given(providers, capabilities, env)}
    result = api.wait_for("runtimes.push", KIT_SECONDS, {**given, **({"unchecked": True} if unchecked else {})})
    if out.json:
        out.data(result)
        return 0 if result["pushed"] else 1
    if not result["pushed"]:
        show_checks(out, result["checks"])
        out.say(f"{image} was not pushed: it falls short of the contract. Mend it, or push it with --unchecked.")
        return 1
    for warning in result.get("warnings") or ():
        out.warn(warning)
    said = f"Runtime {name!r} is at version {result['version']} now: {image}, {_short(result['digest'])}."
    out.done(said, f"switchboard agent quick NAME --runtime {name}", f"switchboard runtimes versions {name}")
    return 0


@runtimes.command("versions", examples=("switchboard runtimes versions mine", "switchboard runtimes versions mine --json"))
@click.argument("name")
@as_owner
def versions(out: Output, api: OwnerApi, name: str) -> None:
    """List the versions of a runtime that was pushed, the newest first."""
    result = api.call("runtimes.versions", name=name)
    if out.json:
        return out.data(result)
    rows = [
        (
            v["version"],
            "current" if v["current"] else v["state"],
            v["image"],
            _short(v["digest"]),
            ", ".join(v["providers"]),
            ", ".join(v["capabilities"]),
            when(v["created_at"]),
        )
        for v in result["versions"]
    ]
    return out.table(("VERSION", "STATE", "IMAGE", "DIGEST", "PROVIDERS", "CAPABILITIES", "PUSHED"), rows)


@runtimes.command("rollback", examples=("switchboard runtimes rollback mine", "switchboard runtimes rollback mine 3"))
@click.argument("name")
@click.argument("version", required=False, type=click.IntRange(1))
@as_owner
def rollback(out: Output, api: OwnerApi, name: str, version: int | None) -> None:
    """Let new sessions get an earlier version: the one before, or the one that is named."""
    result = api.call("runtimes.rollback", name=name, **({} if version is None else {"version": version}))
    if out.json:
        return out.data(result)
    said = f"New sessions of runtime {name!r} get version {result['version']} now: {result['image']}."
    return out.done(said, f"switchboard runtimes versions {name}")


@runtimes.command(
    "deprecate", examples=("switchboard runtimes deprecate mine 2", "switchboard runtimes deprecate mine 2 --json")
)
@click.argument("name")
@click.argument("version", type=click.IntRange(1))
@as_owner
def deprecate(out: Output, api: OwnerApi, name: str, version: int) -> None:
    """Keep a version from ever being the current one again. Sessions that have it go on with it."""
    result = api.call("runtimes.deprecate", name=name, version=version)
    if out.json:
        return out.data(result)
    return out.done(f"Version {version} of runtime {name!r} is deprecated.", f"switchboard runtimes versions {name}")


def _short(digest: str) -> str:
    """As people compare it."""
    name, _, number = digest.rpartition("sha256:")
    return f"{name}{number[:12]}" if number else digest


@runtimes.command(
    "replay",
    context_settings={"ignore_unknown_options": True},
    options_metavar="RUNTIME [--mode MODE] --meta META.json RAW.jsonl",
    examples=(
        "switchboard runtimes replay claude --meta hello/meta.json hello/raw.jsonl",
        "switchboard runtimes replay codex --mode exec --meta hello/meta.json hello/raw.jsonl",
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
    if check.get("verdict") == "not shown":
        return "-"
    if check["ok"]:
        return "ok"
    return "FAILED" if check.get("required", True) else "note"


def _installed(runtime: dict[str, Any]) -> str:
    return str(runtime.get("version") or "yes") if runtime.get("installed") else "no"


def _modes(runtime: dict[str, Any]) -> str:
    names = [mode["name"] if isinstance(mode, dict) else str(mode) for mode in runtime.get("modes") or []]
    return ", ".join(f"{name}*" if name == runtime.get("default_mode") and len(names) > 1 else name for name in names)
