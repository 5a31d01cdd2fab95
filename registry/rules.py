"""What a name, a model, a limit and the rest of an agent may be, and the registry's errors.

Every error quotes the value and says the mend; the gateway translates them at its border. What a runtime can do is
handed in as `RuntimeFacts`: the registry knows no adapters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from registry import catalog, hosts

if TYPE_CHECKING:
    from registry.makeup import Makeup


class RegistryError(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Invalid(RegistryError):
    """A value that makes no sense."""


class Mismatch(RegistryError):
    """The runtime cannot drive the model."""


class Missing(RegistryError):
    """No such agent, version or runtime."""


class Taken(RegistryError):
    """The name belongs to another agent."""


class Stale(RegistryError):
    """Somebody else changed the agent meanwhile."""


class Unreadable(RegistryError):
    """A sealed value does not open."""


class KeyFileUnsafe(RegistryError):
    """A key file is damaged, or others may read it."""


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What the rules need to know of a runtime."""

    name: str
    providers: frozenset[str] = frozenset()  # empty: it chooses its model itself
    modes: frozenset[str] = frozenset()
    default_mode: str = ""
    default_model: str | None = None
    takes_command: bool = False
    mcp_modes: frozenset[str] = frozenset()
    contained: bool = False  # runs in a container only


MAX_PROMPT = 2**20  # bytes
MAX_ENV_VALUE = 32 * 1024
MAX_LIMIT = 10**12
PLACEMENTS = ("local", "sandboxed", "docker")  # processes of the gateway's user; the same inside bubblewrap; containers
EGRESS_MODES = ("strict", "audit")  # refuse what the policy does not name; let it pass and write it down
MAX_HOSTS = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit's name is its key in `LIMITS`. `whole`: a whole number; `agent`: of agents only, not of single sessions."""

    meaning: str
    whole: bool = True
    agent: bool = False
    least: float = 0  # more than 0 in any case
    contained: bool = False  # holds in containers only


LIMITS: dict[str, Limit] = {
    "turn_seconds": Limit("Seconds a turn may take.", whole=False),
    "stall_seconds": Limit("Seconds a turn may be without any output.", whole=False),
    "turn_attempts": Limit("How often a turn may begin; after a crash it goes on in another attempt."),
    "max_turns": Limit("Calls of the model in a turn, where the runtime can count them."),
    "tool_calls": Limit("Tools used in a turn."),
    "output_bytes": Limit("Bytes of text and artifacts a turn may tell."),
    "turn_tokens": Limit("Tokens of a turn, as far as the runtime tells them while it works."),
    "turn_cost_usd": Limit("Cost of a turn, as far as the runtime tells it while it works.", whole=False),
    "session_turns": Limit("Turns of a session."),
    "session_tokens": Limit("Tokens of all turns of a session."),
    "session_cost_usd": Limit("Cost of all turns of a session.", whole=False),
    "running_turns": Limit("Turns of the agent that run at the same time.", agent=True),
    "caller_sessions": Limit("Sessions a caller may have of the agent, archived ones left out.", agent=True),
    "disk_mb": Limit("Megabytes of a session's files.", agent=True),
    "memory_mb": Limit("Megabytes of memory of a container.", agent=True, least=64, contained=True),
    "cpus": Limit(
        "Processors' time a container may use: 0.5 is half of one.", whole=False, agent=True, least=0.01, contained=True
    ),
    "pids": Limit("Processes and threads of a container.", agent=True, least=16, contained=True),
}
_RESERVED_NAMES = """
    admin agent agents api card chat console default directory doctor health healthz live me metrics models new none
    null owner public ready readyz runtime runtimes sessions static switchboard system tasks well-known
"""
RESERVED = frozenset(_RESERVED_NAMES.split())
# Variables that decide what runs or where it keeps things: the gateway sets those, or nobody does.
_DANGEROUS_PREFIXES = ("LD_", "DYLD_", "SWITCHBOARD_", "BASH_FUNC_")
_DANGEROUS_NAMES = """
    PATH HOME SHELL IFS ENV BASH_ENV PWD USER LOGNAME TMPDIR PYTHONPATH PYTHONHOME PYTHONSTARTUP NODE_OPTIONS NODE_PATH
    PERL5OPT PERL5LIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS GIT_SSH_COMMAND GIT_EXEC_PATH XDG_CONFIG_HOME XDG_DATA_HOME
"""
_DANGEROUS = frozenset(_DANGEROUS_NAMES.split())
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MODEL = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127})")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
MAX_URL = 2048
_TOKEN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"  # RFC 6838, section 4.2
_MEDIA_RANGE = re.compile(rf"(?:\*|{_TOKEN})/\*")
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:; ?{_TOKEN}=[A-Za-z0-9._+-]{{1,127}}){{0,5}}")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        rule = "Use 1 to 63 of a-z, 0-9 and hyphens, with a letter or digit at both ends."
        raise Invalid(f"{name[:100]!r} cannot be the name of an agent.", rule)
    if name in RESERVED:
        raise Invalid(f"The name {name!r} is reserved.", "Choose another name.")


def check(makeup: Makeup, runtime: RuntimeFacts) -> list[str]:
    """Raise for what cannot be; return warnings for what is odd."""
    check_mode(makeup.mode, runtime)
    warnings = check_model(makeup.model, runtime)
    check_text("prompt", makeup.prompt)
    check_text("description", makeup.description)
    check_face(makeup)
    check_unique("skill", [skill["id"] for skill in makeup.skills])
    if makeup.extended is not None:
        check_text("extended description", makeup.extended["description"])
        check_unique("extended skill", [skill["id"] for skill in makeup.extended["skills"]])
    check_unique("MCP server", [server["name"] for server in makeup.mcp_servers])
    check_limits(makeup.limits)
    check_command(makeup.command, runtime)
    check_placement(makeup, runtime)
    check_egress(makeup, runtime)
    if makeup.mcp_servers and (makeup.mode or runtime.default_mode) not in runtime.mcp_modes:
        warnings.append(f"Runtime {runtime.name!r} cannot use MCP servers in this mode; they are left out.")
    return warnings


def check_mode(mode: str | None, runtime: RuntimeFacts) -> None:
    if mode is not None and mode not in runtime.modes:
        raise Invalid(f"Runtime {runtime.name!r} has no mode {mode!r}.", f"Choose one of: {listed(runtime.modes)}.")


def check_model(model: str | None, runtime: RuntimeFacts) -> list[str]:
    if model is None:
        return []
    provider = split_model(model)[0]
    if provider not in catalog.providers() | runtime.providers:
        known = listed(catalog.providers() | runtime.providers)
        raise Invalid(f"The provider {provider!r} of model {model!r} is not known.", f"Choose one of: {known}.")
    if provider not in runtime.providers:
        raise Mismatch(*_mismatch(model, runtime))
    if model in catalog.models():
        return []
    return [f"Model {model!r} is not in the catalogue; it is passed on as it is.{_meant(model)}"]


def _mismatch(model: str, runtime: RuntimeFacts) -> tuple[str, str]:
    if not runtime.providers:
        said = f"Runtime {runtime.name!r} cannot drive model {model!r}: it chooses its model itself."
        return said, "Leave the model out (null), or choose another runtime."
    said = f"Runtime {runtime.name!r} cannot drive model {model!r}: it drives models of {listed(runtime.providers)}."
    example = runtime.default_model or next((id for id, m in catalog.models().items() if m.provider in runtime.providers), "")
    other = f" such as {example!r}" if example else ""
    return said, f"Choose a model{other}, null for the runtime's default, or another runtime."


def split_model(model: str) -> tuple[str, str]:
    """(provider, model_id) of a canonical id."""
    found = _MODEL.fullmatch(model)
    if found is None:
        meant = catalog.canonical(model)
        hint = f"Did you mean {meant!r}?" if meant else f"Write it like {next(iter(catalog.models()))!r}."
        raise Invalid(f"{model[:200]!r} is not a model in the form provider/model_id.", hint)
    return found.group(1), found.group(2)


def _meant(model: str) -> str:
    """A word on the model of the same provider that is spelt almost alike."""
    provider, model_id = split_model(model)
    ids = [known.model_id for known in catalog.models().values() if known.provider == provider]
    close = get_close_matches(model_id, ids, n=1, cutoff=0.9)
    return f" Did you mean '{provider}/{close[0]}'?" if close else ""


def check_text(field: str, text: str) -> None:
    if "\x00" in text:
        raise Invalid(f"The {field} holds a NUL character at position {text.index(chr(0))}.", "Remove it.")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_PROMPT:
        raise Invalid(f"The {field} has {size} bytes; {MAX_PROMPT} are allowed.", "Shorten it.")


def check_face(makeup: Makeup) -> None:
    """What stands on the card beside texts."""
    urls = {"documentation_url": makeup.documentation_url, "icon_url": makeup.icon_url}
    urls["provider.url"] = makeup.provider["url"] if makeup.provider else None
    for name, url in urls.items():
        if url is not None:
            check_url(name, url)
    for name, modes in (("input_modes", makeup.input_modes), ("output_modes", makeup.output_modes)):
        for mode in modes:
            if not _MEDIA_TYPE.fullmatch(mode) and not _MEDIA_RANGE.fullmatch(mode):
                raise Invalid(f"{name}: {mode[:100]!r} is no media type.", "Write it like 'text/plain'.")
        check_unique(name.replace("_modes", " mode"), modes)
    check_unique("tag", makeup.tags)


def check_url(name: str, url: str) -> None:
    """An address anybody may see and open: http(s), and no password in it."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise Invalid(f"{name}: {url[:100]!r} is no http or https URL.", "Write it like 'https://example.com/page'.")


def check_unique(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            raise Invalid(f"The {what} {id!r} is given twice.", "Give each one its own.")
        seen.add(id)


def check_limits(limits: Mapping[str, Any], known: Mapping[str, Limit] = LIMITS) -> None:
    for name, value in limits.items():
        limit = known.get(name)
        if limit is None:
            raise Invalid(f"There is no limit {name[:100]!r}.", f"Choose from: {listed(known)}.")
        number = isinstance(value, int if limit.whole else (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= MAX_LIMIT or value < limit.least:
            what, least = "a whole number" if limit.whole else "a number", f"from {limit.least}" if limit.least else "above 0"
            raise Invalid(
                f"The limit {name!r} cannot be {value!r}.", f"{limit.meaning} Give {what} {least}, at most {MAX_LIMIT}."
            )


def check_session_limits(limits: Mapping[str, Any]) -> None:
    """Those a single session may be given; the stricter of its agent's and its own holds."""
    check_limits(limits, {name: limit for name, limit in LIMITS.items() if not limit.agent})


def check_env(env: Mapping[str, str | None]) -> None:
    """Names and values in the clear; errors never quote a value."""
    for name, value in env.items():
        if not _ENV.fullmatch(name):
            raise Invalid(f"{name[:100]!r} cannot be the name of a variable.", "Use letters, digits and underscores.")
        if name.upper() in _DANGEROUS or name.upper().startswith(_DANGEROUS_PREFIXES):
            raise Invalid(f"The variable {name!r} may not be set: it decides what runs.", "Leave it out.")
        if value is not None and ("\x00" in value or len(value) > MAX_ENV_VALUE):
            raise Invalid(f"The value of {name!r} holds a NUL character or is longer than {MAX_ENV_VALUE}.", "Shorten it.")


def check_command(command: list[str], runtime: RuntimeFacts) -> None:
    if runtime.takes_command and not command:
        raise Invalid(
            f"Runtime {runtime.name!r} needs the command that starts the agent.", 'Give command, such as ["my-agent"].'
        )
    if command and not runtime.takes_command:
        raise Invalid(f"Runtime {runtime.name!r} takes no command; {command[0]!r} was given.", "Leave command out.")
    if any(not word or "\x00" in word for word in command[:1]) or any("\x00" in word for word in command):
        raise Invalid(f"The command {command!r} has an empty program or a NUL character.", "Correct it.")


def check_placement(makeup: Makeup, runtime: RuntimeFacts) -> None:
    placement = makeup.placement
    if placement not in PLACEMENTS:
        raise Invalid(f"An agent cannot be placed {placement[:100]!r}.", f"Choose one of: {listed(PLACEMENTS)}.")
    if runtime.contained and placement != "docker":
        said = f"Runtime {runtime.name!r} is an image: its agents cannot be placed {placement!r}."
        raise Invalid(said, "Set placement to docker.")
    for name in makeup.limits:
        if LIMITS[name].contained and placement != "docker":
            said = f"The limit {name!r} is of containers; the agent is placed {placement!r}."
            raise Invalid(said, f"Set placement to docker too, or the limit to null: {name}=null.")


def check_egress(makeup: Makeup, runtime: RuntimeFacts) -> None:
    if makeup.egress_mode not in EGRESS_MODES:
        said = f"egress_mode cannot be {makeup.egress_mode[:100]!r}."
        raise Invalid(said, f"Choose one of: {listed(EGRESS_MODES)}.")
    check_hosts(makeup.egress)
    if makeup.filtered and makeup.placement == "local":
        said = "An egress policy needs a sandbox or a container around the agent, and it is placed 'local'."
        raise Invalid(said, "Set placement to sandboxed or docker too, or egress to all and egress_mode to strict.")
    if makeup.filtered and len(runtime.providers) > 1 and not (makeup.model or runtime.default_model):
        said = f"With an egress policy runtime {runtime.name!r} must be told its model."
        raise Invalid(said, "Set model as well: the gateway must know which provider to reach for it.")


def check_hosts(egress: str | list[str]) -> None:
    if isinstance(egress, str) or not egress:
        if egress not in ("all", "none"):
            raise Invalid(f"egress cannot be {str(egress)[:100]!r}.", "Give all, none, or a list of hosts.")
        return
    if len(egress) > MAX_HOSTS:
        raise Invalid(f"egress names {len(egress)} hosts; {MAX_HOSTS} are allowed.", "Use wildcards, such as *.example.com.")
    for host in egress:
        try:
            hosts.parse(host)
        except ValueError as exc:
            hint = "Write it like api.example.com, *.example.com or mirror.example.com:8443."
            raise Invalid(f"egress: {exc}.", hint) from exc
    check_unique("host", egress)


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
