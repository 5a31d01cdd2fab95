"""The OpenAI Codex CLI: how to start it. `app-server` is spoken both ways, `exec` once.

Deliberate: the model provider is a custom one, so that key, URL and retries are ours and nothing tries a WebSocket
first. Without these bounds an unreachable provider is retried for ever and analytics holds the process for five
seconds. What may be long or secret (instructions, MCP servers) goes into CODEX_HOME/config.toml, never into argv; that
file also makes CODEX_HOME exist, which the CLI insists on. Commands the model runs do not see the provider's key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from adapters.dialogue import Turn
from adapters.endpoints import OPENAI
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile, value_after
from adapters.runtimes.codex.app_server import AppServerDialogue
from adapters.runtimes.codex.exec import ExecDialogue

KEY, BASE_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
DEFAULT_BASE_URL = "https://api.openai.com/v1"
FOLDER = ".codex"
_PROVIDER = "gateway"
_MCP = re.compile(r"mcp_servers\.([\w-]+)=")


def launch_app_server(plan: Plan) -> Launch:
    return _launch(plan, ["app-server", *_settings(plan)], {}, keep_stdin=True)


def launch_exec(plan: Plan) -> Launch:
    """The prompt comes on stdin (`-`): an argument is limited to 128 KiB and shows in the process list."""
    turn = plan.turn
    flags = ["--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", *_settings(plan)]
    if turn.model:
        flags += ["-m", turn.model]
    if turn.native_session:
        return _launch(plan, ["exec", "resume", *flags, turn.native_session, "-"], _instructions(turn))
    return _launch(plan, ["exec", *flags, "-"], _instructions(turn))


def _launch(plan: Plan, args: list[str], config: Mapping[str, Any], *, keep_stdin: bool = False) -> Launch:
    servers = {str(server["name"]): _mcp_server(server) for server in plan.turn.mcp_servers}
    lines = [f"{name} = {toml(value)}\n" for name, value in {**config, "mcp_servers": servers}.items()]
    return Launch(
        argv=(plan.executable, *args),
        env={**plan.env, "CODEX_HOME": f"{plan.home.rstrip('/')}/{FOLDER}"},
        files={f"{FOLDER}/config.toml": "".join(lines)},
        keep_stdin=keep_stdin,
    )


def _instructions(turn: Turn) -> dict[str, str]:
    return {"developer_instructions": turn.system_prompt} if turn.system_prompt else {}


def _settings(plan: Plan) -> list[str]:
    provider = {
        "name": _PROVIDER,
        "base_url": plan.env.get(BASE_URL) or DEFAULT_BASE_URL,
        "env_key": KEY,
        "wire_api": "responses",
        "request_max_retries": 2,
        "stream_max_retries": 2,
    }
    settings = {
        "model_provider": _PROVIDER,
        f"model_providers.{_PROVIDER}": provider,
        "features.unbounded_connection_retries": False,
        "analytics.enabled": False,
        "shell_environment_policy.exclude": ["OPENAI_*", "CODEX_*"],
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={toml(value)}")]


def _mcp_server(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        return {"url": server["url"], "http_headers": dict(server.get("headers") or {})}
    command, args = server["command"], [*map(str, server.get("args") or ())]
    if not isinstance(command, str):
        command, *first = map(str, command)
        args = [*first, *args]
    return {"command": command, "args": args, "env": dict(server.get("env") or {})}


def toml(value: Any) -> str:
    """`value` as TOML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(value: str) -> str:
    """JSON's escapes are TOML's, but for DEL; a lone surrogate is in neither."""
    clean = value.encode("utf-8", "replace").decode()
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def recorded_turn(meta: Mapping[str, Any]) -> Turn:
    """The turn a recording tells of, from its argv."""
    argv = [str(word) for word in meta.get("argv") or ("codex", "")]
    servers = [found[1] for word in argv if (found := _MCP.match(word))]
    return Turn(
        prompt=str(meta.get("stdin") or argv[-1]),
        model=value_after(argv, "-m"),
        native_session=argv[-2] if "resume" in argv else None,
        mcp_servers=tuple({"name": name} for name in servers),
    )


PROFILE = Profile(
    name="codex",
    title="OpenAI Codex",
    executable="codex",
    providers=frozenset({"openai"}),
    modes={
        "app-server": Mode(
            "app-server",
            AppServerDialogue,
            launch_app_server,
            Capabilities(deltas=True, resume=True, steer=True, interrupt=True, mcp=True),
            recorded_turn,
        ),
        "exec": Mode("exec", ExecDialogue, launch_exec, Capabilities(resume=True, mcp=True), recorded_turn),
    },
    default_mode="app-server",
    key_env={"openai": KEY},
    endpoints={"openai": OPENAI},
    env_names=(BASE_URL,),
    known_versions="0.169.0",
    install_hint="npm install -g @openai/codex",
)
