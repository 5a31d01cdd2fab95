"""The options of `switchboard agent` as fields of an agent."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from typing import Any

from gateway.errors import InvalidParams

GIT = {
    "url": "git",
    "ref": "git_ref",
    "depth": "git_depth",
    "submodules": "git_submodules",
    "username": "git_user",
    "password": "git_password",
}
LISTED = ("env", "tag", "limit", "mount", "volume", "hook", "hook_seconds")  # options that are given more than once


def fields_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, as fields of an agent."""
    fields = {name: value for name, value in options.items() if value is not None and name not in (*LISTED, *GIT.values())}
    if git := {name: options[option] for name, option in GIT.items() if options.get(option) is not None}:
        if "url" not in git:
            raise InvalidParams("Options that begin with --git- go with --git.", "Give the repository's URL, too: --git URL")
        fields["git"] = _with_password(git)
    if options.get("hook") or options.get("hook_seconds"):
        fields["hooks"] = _hooks(options["hook"], options["hook_seconds"])
    if "command" in fields:
        fields["command"] = _argv(fields["command"])
    if fields.get("egress", "all") not in ("all", "none"):
        fields["egress"] = [host.strip() for host in fields["egress"].split(",") if host.strip()]
    if options.get("tag"):
        fields["tags"] = list(options["tag"])
    if options.get("env"):
        fields["env"] = dict(map(_variable, options["env"]))
    if options.get("mount"):
        fields["mounts"] = [_mount(given) for given in options["mount"]]
    if options.get("volume"):
        fields["volumes"] = [_volume(given) for given in options["volume"]]
    if options.get("limit"):
        fields["limits"] = dict(map(limit, options["limit"]))
    return fields


def _argv(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as exc:
        raise InvalidParams(f"--command {line!r} cannot be split into words: {exc}.", "Close the quote.") from exc


def _variable(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name:
        raise InvalidParams(f"--env {given!r} names no variable.", "Write it as: --env NAME=VALUE")
    if not equals and name not in os.environ:
        raise InvalidParams(f"--env {given!r}: the variable is not set here.", f"Write it as: --env {name}=VALUE")
    return name, value if equals else os.environ[name]


def _with_password(git: dict[str, Any]) -> dict[str, Any]:
    """A command line is seen by others: there stands where the password is, not what it is."""
    variable = git.get("password")
    if variable is None:
        return git
    if not os.environ.get(variable):
        raise InvalidParams(f"--git-password {variable!r}: the variable is not set here.", "Name one that holds the password.")
    return {**git, "password": os.environ[variable]}


def _hooks(commands: Sequence[str], seconds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is given of each hook; what is not stays as it is."""
    hooks: dict[str, dict[str, Any]] = {}
    for given in commands:
        name, _, command = given.partition("=")
        if not command:
            raise InvalidParams(f"--hook {given!r} gives no command.", "Write it as: --hook pre_init='make setup'")
        hooks.setdefault(name, {})["command"] = command
    for given in seconds:
        name, _, number = given.partition("=")
        try:
            hooks.setdefault(name, {})["seconds"] = _number(number)
        except (ValueError, OverflowError) as exc:
            said = f"--hook-seconds {given!r} gives no number."
            raise InvalidParams(said, "Write it as: --hook-seconds pre_init=600") from exc
    return hooks


def _mount(given: str) -> dict[str, Any]:
    source, _, rest = given.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target or mode not in ("", "ro", "rw"):
        raise InvalidParams(
            f"--mount {given!r} does not say what is seen where.", "Write it as: --mount /srv/data:/mnt/data:rw"
        )
    return {"source": source, "target": target, "writable": mode == "rw"}


def _volume(given: str) -> dict[str, Any]:
    name, _, target = given.partition(":")
    if not name or not target:
        raise InvalidParams(f"--volume {given!r} does not say what is seen where.", "Write it as: --volume cache:/mnt/cache")
    return {"name": name, "target": target}


def limit(given: str) -> tuple[str, int | float]:
    """NAME=N. Raises InvalidParams."""
    name, _, value = given.partition("=")
    try:
        return name, _number(value)
    except (ValueError, OverflowError) as exc:
        raise InvalidParams(f"--limit {given!r} gives no number.", "Write it as: --limit tool_calls=20") from exc


def _number(text: str) -> int | float:
    """Raises ValueError, OverflowError."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return int(number) if number.is_integer() else number
