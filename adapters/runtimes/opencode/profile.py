"""What the gateway knows of opencode: its command lines, its configuration and its model providers.

The configuration goes into `OPENCODE_CONFIG_CONTENT`, which wins over a project's own files. API keys stand in it only as
`{env:NAME}`. Retries cannot be bounded by a setting in this version (up to 80 s): the engine's deadlines hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.acp import recorded_load
from adapters.dialogue import Turn
from adapters.endpoints import ANTHROPIC, GOOGLE, OPENAI
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile, value_after
from adapters.runtimes.opencode.dialogue import AcpMode, RunMode
from adapters.runtimes.opencode.serve import ServeMode


@dataclass(frozen=True, slots=True)
class _Provider:
    key: str
    base_url: str  # the variable with the base URL, as the vendor's own SDK reads it
    suffix: str = ""  # what opencode's SDK wants in the URL beyond that
    npm: str | None = None
    name: str | None = None  # in opencode's configuration, where it is not our own


_PROVIDERS = {
    "anthropic": _Provider("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "/v1"),
    "openai": _Provider("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "google": _Provider("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "/v1beta"),
    # opencode tries a 404 again for a minute if the name of its provider begins with "openai".
    "openai-compatible": _Provider(
        "OPENAI_API_KEY", "OPENAI_BASE_URL", npm="@ai-sdk/openai-compatible", name="compatible-with-openai"
    ),
}
_QUIET = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"}
_HOME = ".config/opencode"
# opencode installs its plug-in package into its configuration folder at every start unless it finds it in the lock file.
_NO_INSTALL = {
    f"{_HOME}/package-lock.json": '{"packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}}',
    f"{_HOME}/node_modules/.keep": "",
}


def _known(plan: Plan) -> _Provider:
    return _PROVIDERS.get(str(plan.provider), _PROVIDERS["openai-compatible"])


def _name(plan: Plan) -> str:
    return _known(plan).name or str(plan.provider)


def _model(plan: Plan) -> str | None:
    return f"{_name(plan)}/{plan.turn.model}" if plan.provider and plan.turn.model else None


def _config(plan: Plan, *, mcp: bool) -> dict[str, Any]:
    model = _model(plan)
    agents: dict[str, Any] = {"title": {"disable": True}}
    if plan.max_turns:
        agents["build"] = {"steps": plan.max_turns}
    return {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "permission": {"*": "allow", "external_directory": "allow", "doom_loop": "allow"},
        "agent": agents,
        **(_chosen(plan, model) if model else {}),
        **({"mcp": {server["name"]: _mcp(server) for server in plan.turn.mcp_servers}} if mcp else {}),
    }


def _chosen(plan: Plan, model: str) -> dict[str, Any]:
    """The model, and no provider but its own: opencode offers free models of its own maker otherwise."""
    return {"model": model, "small_model": model, "enabled_providers": [_name(plan)], "provider": _provider(plan)}


def _provider(plan: Plan) -> dict[str, Any]:
    """The chosen provider. Its model is named too, so that one newer than opencode's own list can be used."""
    name, known = _name(plan), _known(plan)
    options = {"apiKey": f"{{env:{known.key}}}"}
    url = plan.env.get(known.base_url, "").rstrip("/")
    if url:
        options["baseURL"] = url if url.endswith(known.suffix) else url + known.suffix
    settings: dict[str, Any] = {"options": options, "models": {plan.turn.model: {}}}
    return {name: settings | ({"npm": known.npm, "name": name} if known.npm else {})}


def _mcp(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        return {"type": "remote", "url": server["url"], "headers": dict(server.get("headers") or {}), "enabled": True}
    command = server["command"]
    first = list(command) if isinstance(command, list | tuple) else [command]
    argv = [*map(str, first), *map(str, server.get("args") or ())]
    return {"type": "local", "command": argv, "environment": dict(server.get("env") or {}), "enabled": True}


def _start(plan: Plan, argv: list[str], *, mcp: bool, keep_stdin: bool) -> Launch:
    config = json.dumps(_config(plan, mcp=mcp), separators=(",", ":"))
    return Launch(
        argv=(plan.executable, *argv),
        env={**plan.env, **_QUIET, "OPENCODE_CONFIG_CONTENT": config},
        files={f"{_HOME}/AGENTS.md": plan.turn.system_prompt or "", **_NO_INSTALL},
        keep_stdin=keep_stdin,
    )


def _launch_acp(plan: Plan) -> Launch:
    return _start(plan, ["acp"], mcp=False, keep_stdin=True)


def _launch_run(plan: Plan) -> Launch:
    argv = ["run", "--format", "json", "--auto", "--thinking", "--title", "task"]
    model = _model(plan)
    argv += ["--model", model] if model else []
    argv += ["--session", plan.turn.native_session] if plan.turn.native_session else []
    return _start(plan, argv, mcp=True, keep_stdin=False)


def _recorded_turn(meta: Mapping[str, Any]) -> Turn:
    config = (meta.get("files") or {}).get("OPENCODE_CONFIG_CONTENT") or {}
    argv = list(meta.get("argv") or ())
    resumed = value_after(argv, "--session") or recorded_load(meta)
    servers = tuple({"name": name} for name in config.get("mcp") or {})
    return Turn(prompt=meta.get("stdin") or "", native_session=resumed, mcp_servers=servers)


PROFILE = Profile(
    name="opencode",
    title="opencode",
    executable="opencode",
    providers=frozenset(_PROVIDERS),
    modes={
        "acp": Mode(
            name="acp",
            dialogue=AcpMode,
            launch=_launch_acp,
            capabilities=Capabilities(deltas=True, resume=True, steer=True, interrupt=True, mcp=True),
            recorded_turn=_recorded_turn,
        ),
        "run": Mode(
            name="run",
            dialogue=RunMode,
            launch=_launch_run,
            capabilities=Capabilities(deltas=False, resume=True, mcp=True),
            recorded_turn=_recorded_turn,
        ),
        "serve": Mode(
            name="serve",
            dialogue=ServeMode,
            launch=None,
            capabilities=Capabilities(deltas=True, resume=True, mcp=True),
            recorded_turn=_recorded_turn,
        ),
    },
    default_mode="acp",
    key_env={name: provider.key for name, provider in _PROVIDERS.items()},
    endpoints={"anthropic": ANTHROPIC, "openai": OPENAI, "google": GOOGLE, "openai-compatible": OPENAI},
    env_names=tuple(dict.fromkeys(provider.base_url for provider in _PROVIDERS.values())),
    known_versions="1.18.33",
    install_hint="npm install -g opencode-ai",
)
