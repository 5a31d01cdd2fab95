"""The Gemini CLI: how it is started. Its settings are files below HOME, made anew for every turn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from adapters.acp import recorded_load
from adapters.dialogue import Turn
from adapters.endpoints import GOOGLE
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile, value_after
from adapters.runtimes.gemini.acp import GeminiAcpDialogue
from adapters.runtimes.gemini.dialogue import PrintDialogue
from adapters.runtimes.gemini.tools import EXIT_SCRIPT

KEY = "GEMINI_API_KEY"
FOLDER = ".gemini"
_EXIT_FILE = f"{FOLDER}/exit_code.sh"


def launch_print(plan: Plan) -> Launch:
    """The prompt comes on stdin: without `-p` and without a terminal the CLI reads it from there."""
    turn = plan.turn
    args = ["--output-format", "stream-json"]
    if turn.native_session:
        args += ["--resume", turn.native_session]
    elif turn.new_session:
        args += ["--session-id", turn.new_session]
    return _launch(plan, args, plan.turn.mcp_servers, keep_stdin=False)


def launch_acp(plan: Plan) -> Launch:
    """MCP servers are told in `session/new`."""
    return _launch(plan, ["--acp"], (), keep_stdin=True)


def _launch(plan: Plan, args: list[str], servers: Iterable[Mapping[str, Any]], *, keep_stdin: bool) -> Launch:
    model = ["-m", plan.turn.model] if plan.turn.model else []
    return Launch(
        argv=(plan.executable, *args, "--approval-mode", "yolo", *model),
        env={
            **plan.env,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_CLI_NO_RELAUNCH": "true",  # else a parent process ignores SIGTERM and leaves its child behind
            "BASH_ENV": f"{plan.home.rstrip('/')}/{_EXIT_FILE}",
        },
        files={
            f"{FOLDER}/settings.json": json.dumps(_settings(plan, servers)),
            f"{FOLDER}/GEMINI.md": plan.turn.system_prompt or "",
            _EXIT_FILE: EXIT_SCRIPT,
        },
        keep_stdin=keep_stdin,
    )


def _settings(plan: Plan, servers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False, "maxAttempts": 3},
        "tools": {"shell": {"enableInteractiveShell": False}},  # else ACP mode shows no output of commands
        "model": {"maxSessionTurns": plan.max_turns or -1},
        "mcpServers": {str(server["name"]): _mcp(server) for server in servers},
    }


def _mcp(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        kind = "url" if server.get("type") == "sse" else "httpUrl"
        return {kind: server["url"], "headers": dict(server.get("headers") or {}), "trust": True}
    command, args = server["command"], [*map(str, server.get("args") or ())]
    if not isinstance(command, str):
        command, *first = map(str, command)
        args = [*first, *args]
    return {"command": command, "args": args, "env": dict(server.get("env") or {}), "trust": True}


def recorded_turn(meta: Mapping[str, Any]) -> Turn:
    files: Mapping[str, Any] = meta.get("files") or {}
    settings: Mapping[str, Any] = next((content for path, content in files.items() if path.endswith("settings.json")), {})
    argv = [str(word) for word in meta.get("argv") or ()]
    return Turn(
        prompt=value_after(argv, "-p") or meta.get("stdin") or "",
        model=value_after(argv, "-m"),
        native_session=value_after(argv, "--resume") or recorded_load(meta),
        new_session=value_after(argv, "--session-id"),
        mcp_servers=tuple({"name": name} for name in settings.get("mcpServers") or {}),
    )


PROFILE = Profile(
    name="gemini",
    title="Gemini CLI",
    executable="gemini",
    providers=frozenset({"google"}),
    modes={
        "print": Mode(
            name="print",
            dialogue=PrintDialogue,
            launch=launch_print,
            capabilities=Capabilities(deltas=True, resume=True, mcp=True),
            recorded_turn=recorded_turn,
        ),
        "acp": Mode(
            name="acp",
            dialogue=GeminiAcpDialogue,
            launch=launch_acp,
            capabilities=Capabilities(deltas=True, resume=False, interrupt=True, mcp=True),
            recorded_turn=recorded_turn,
        ),
    },
    default_mode="print",
    key_env={"google": KEY},
    endpoints={"google": GOOGLE},
    env_names=("GOOGLE_GEMINI_BASE_URL", "GEMINI_CLI_CUSTOM_HEADERS"),
    default_model="google/gemini-2.5-pro",
    known_versions="0.61.0",
    install_hint="npm install -g @google/gemini-cli",
)
