"""What an owner sets of an agent, and how a change is laid over it.

Maps (`env`, `limits`, `hooks`) are merged, and null takes an entry away; everything else is replaced, and null brings the
default back. Secret values (`env`, `env` and `headers` of MCP servers, the password of `git`) are kept sealed and
shown as "set"; a "set" that comes back means the value that is there, so that what was shown can be sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from registry.rules import Invalid
from registry.secrets import Box

SHOWN = "set"
HOOK_SECONDS = 300
_SECRET_PARTS = ("env", "headers")  # of an MCP server
_GIT = "git/password"


@dataclass(frozen=True, slots=True)
class Makeup:
    """Everything of an agent version that its owner chooses."""

    runtime: str
    mode: str | None = None
    model: str | None = None
    prompt: str = ""
    description: str = ""
    skills: list[dict[str, Any]] = field(default_factory=list)
    provider: dict[str, str] | None = None
    documentation_url: str | None = None
    icon_url: str | None = None
    input_modes: list[str] = field(default_factory=list)  # empty: what the gateway takes by default
    output_modes: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    mcp_servers: list[dict[str, Any]] = field(default_factory=list)
    placement: str = "local"  # where it runs: see rules.PLACEMENTS
    egress: str | list[str] = "all"  # what it reaches from there: all, none, or these hosts
    egress_mode: str = "strict"  # see rules.EGRESS_MODES
    git: dict[str, Any] | None = None  # see shapes.Git: what is checked out into the workspace of each session
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)  # workspace.HOOKS -> {command, seconds}
    work_dir: str = ""  # below the workspace: where the runtime starts
    mounts: list[dict[str, Any]] = field(default_factory=list)  # {source, target, writable}: see registry.ground
    volumes: list[dict[str, Any]] = field(default_factory=list)  # {name, target}
    security_opt: list[str] = field(default_factory=list)  # of its containers
    public: bool = True  # False: only callers who sign in, and are told of it
    extended: dict[str, Any] | None = None  # {description, skills} for callers who signed in

    def changed(self, changes: Mapping[str, Any], box: Box) -> Makeup:
        """This make-up with `changes` (plain values) laid over it, secrets sealed in `box`."""
        default = Makeup(runtime=self.runtime)
        new: dict[str, Any] = {}
        for name, value in changes.items():
            if name == "env":
                new[name] = _sealed(self.env, value or {}, box, "env") if value is not None else {}
            elif name == "limits":
                new[name] = _merged(self.limits, value) if value is not None else {}
            elif name == "hooks":
                new[name] = _merged_hooks(self.hooks, value) if value is not None else {}
            elif name == "git":
                new[name] = _sealed_git(self.git, value, box) if value else None
            elif name == "mcp_servers":
                new[name] = _sealed_servers(self.mcp_servers, value or [], box)
            else:
                new[name] = getattr(default, name) if value is None else value
        return replace(self, **new)

    @property
    def filtered(self) -> bool:
        """Whether what it reaches goes by a proxy of the gateway's."""
        return self.egress != "all" or self.egress_mode == "audit"

    @property
    def secret(self) -> bool:
        """Whether it holds a secret."""
        servers = any(server.get(part) for server in self.mcp_servers for part in _SECRET_PARTS)
        return bool(self.env or servers or (self.git or {}).get("password"))

    def opened(self, box: Box) -> Makeup:
        """With every secret in the clear: for the runner only."""
        env = {name: box.open(f"env/{name}", value) for name, value in self.env.items()}
        servers = [_map_server(server, box.open) for server in self.mcp_servers]
        return replace(self, env=env, mcp_servers=servers, git=_map_git(self.git, box.open))

    def shown(self) -> dict[str, Any]:
        """As owners see it: no secret in it, sealed or not."""
        values = {name: getattr(self, name) for name in FIELDS}
        values["env"] = dict.fromkeys(self.env, SHOWN)
        values["mcp_servers"] = [_map_server(server, _masked) for server in self.mcp_servers]
        values["git"] = _map_git(self.git, _masked)
        return values


FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Makeup))
FACE = frozenset(  # what callers may see
    {
        "description",
        "skills",
        "provider",
        "documentation_url",
        "icon_url",
        "input_modes",
        "output_modes",
        "tags",
        "public",
        "extended",
    }
)


def differing(old: Makeup, new: Makeup) -> list[str]:
    """The fields in which two make-ups differ, in the order of `FIELDS`."""
    return [name for name in FIELDS if getattr(old, name) != getattr(new, name)]


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**old, **new}.items() if value is not None}


def _merged_hooks(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Each by its own fields."""
    known = {name: {"seconds": HOOK_SECONDS, **old.get(name, {})} for name in new}
    return _merged(old, {name: value if value is None else {**known[name], **value} for name, value in new.items()})


def _sealed(old: Mapping[str, str], new: Mapping[str, str | None], box: Box, place: str) -> dict[str, str]:
    """`new` merged over `old`; a value that stays the same keeps its very blob, so that nothing seems changed."""
    out = dict(old)
    for name, value in new.items():
        if value is None:
            out.pop(name, None)
        elif name not in old or (value != SHOWN and value != box.open(f"{place}/{name}", old[name])):
            out[name] = box.seal(f"{place}/{name}", value)
    return out


def _sealed_servers(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], box: Box) -> list[dict[str, Any]]:
    """The list is replaced, but what a server of the same name keeps secret may come back as "set"."""
    known = {server["name"]: server for server in old}
    out = []
    for server in new:
        kept = known.get(server["name"], {})
        secrets: dict[str, Any] = {}
        for part in filter(server.get, _SECRET_PARTS):
            same = {name: value for name, value in kept.get(part, {}).items() if name in server[part]}
            secrets[part] = _sealed(same, server[part], box, f"mcp_servers/{server['name']}/{part}")
        out.append({**server, **secrets})
    return out


def _sealed_git(old: Mapping[str, Any] | None, new: Mapping[str, Any], box: Box) -> dict[str, Any]:
    """A repository is replaced; its password may come back as "set", for the same server. Raises Invalid."""
    password, kept = new.get("password"), None
    if password is None:
        return dict(new)
    if old is not None and _server_of(old["url"]) == _server_of(new["url"]):
        kept = old.get("password")
    if password == SHOWN and kept is None:
        said = f"git.password is {SHOWN!r}, and there is none for the server of {new['url'][:100]!r}."
        raise Invalid(said, "Give the password, or the token, itself.")
    if kept is None or (password != SHOWN and password != box.open(_GIT, kept)):
        kept = box.seal(_GIT, password)
    return {**new, "password": kept}


def _server_of(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:  # it will be refused
        return "", url
    return parts.scheme, parts.netloc.lower()


def _map_git(git: Mapping[str, Any] | None, change: Callable[[str, str], str]) -> dict[str, Any] | None:
    if git is None or git.get("password") is None:
        return None if git is None else dict(git)
    return {**git, "password": change(_GIT, git["password"])}


def _masked(_place: str, _value: str) -> str:
    return SHOWN


def _map_server(server: Mapping[str, Any], change: Any) -> dict[str, Any]:
    secrets = {
        part: {name: change(f"mcp_servers/{server['name']}/{part}/{name}", value) for name, value in server[part].items()}
        for part in _SECRET_PARTS
        if part in server
    }
    return {**server, **secrets}
