"""Claude Code: how it is started. `stream` is spoken to both ways and can be steered; `print` takes one prompt.

Deliberate:
- Permissions are always bypassed: the sandbox is the limit, and nobody is there to be asked. As root the CLI refuses
  that unless it is told that it is in a sandbox.
- Background tasks and timers are off: they would wake the model after its turn was over, when nobody listens.
- Retries are bounded; the CLI's own ten take three minutes, even for a wrong key.
- What may be long or secret (system prompt, MCP servers) goes into files below HOME, never into argv.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adapters.dialogue import Turn
from adapters.endpoints import ANTHROPIC
from adapters.profile import Capabilities, Launch, Mode, Plan, Profile, value_after
from adapters.runtimes.claude.dialogue import PrintDialogue
from adapters.runtimes.claude.stream import StreamDialogue

KEY = "ANTHROPIC_API_KEY"
FOLDER = ".claude"
_MCP_FILE = f"{FOLDER}/mcp-servers.json"
_SYSTEM_FILE = f"{FOLDER}/system-prompt.md"
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    "CLAUDE_CODE_MAX_RETRIES": "3",
    "DISABLE_AUTOUPDATER": "1",
}


def launch_stream(plan: Plan) -> Launch:
    return _launch(plan, ["--input-format", "stream-json", "--replay-user-messages"], keep_stdin=True)


def launch_print(plan: Plan) -> Launch:
    """The prompt comes on stdin: an argument is limited to 128 KiB and shows in the process list."""
    return _launch(plan, [], keep_stdin=False)


def _launch(plan: Plan, args: list[str], *, keep_stdin: bool) -> Launch:
    common = ["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    files = _files(plan.turn)
    home = plan.home.rstrip("/")
    flags = ["--dangerously-skip-permissions", "--strict-mcp-config", *_flags(plan)]
    if _MCP_FILE in files:
        flags += ["--mcp-config", f"{home}/{_MCP_FILE}"]
    if _SYSTEM_FILE in files:
        flags += ["--append-system-prompt-file", f"{home}/{_SYSTEM_FILE}"]
    return Launch(
        argv=(plan.executable, *common, *args, *flags),
        env={**_QUIET, **plan.env, **({"IS_SANDBOX": "1"} if plan.is_root else {})},
        files=files,
        keep_stdin=keep_stdin,
    )


def _flags(plan: Plan) -> list[str]:
    turn = plan.turn
    flags = ["--model", turn.model] if turn.model else []
    if plan.max_turns:
        flags += ["--max-turns", str(plan.max_turns)]
    if turn.native_session:
        return [*flags, "--resume", turn.native_session]
    return [*flags, "--session-id", turn.new_session] if turn.new_session else flags


def _files(turn: Turn) -> dict[str, str]:
    files: dict[str, str] = {}
    if turn.mcp_servers:
        servers = {str(server["name"]): _mcp_server(server) for server in turn.mcp_servers}
        files[_MCP_FILE] = json.dumps({"mcpServers": servers})
    if turn.system_prompt:
        files[_SYSTEM_FILE] = turn.system_prompt
    return files


def _mcp_server(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        return {"type": server.get("type") or "http", "url": server["url"], "headers": dict(server.get("headers") or {})}
    command, args = server["command"], [*map(str, server.get("args") or ())]
    if not isinstance(command, str):
        command, *first = map(str, command)
        args = [*first, *args]
    return {"type": "stdio", "command": command, "args": args, "env": dict(server.get("env") or {})}


def recorded_turn(meta: Mapping[str, Any]) -> Turn:
    """The turn a recording tells of, from its argv."""
    argv = [str(word) for word in meta.get("argv") or ()]
    prompt = value_after(argv, "-p") or ""
    servers = json.loads(value_after(argv, "--mcp-config") or "{}").get("mcpServers", {})
    return Turn(
        prompt=str(meta.get("stdin") or "") if prompt.startswith("--") else prompt,
        model=value_after(argv, "--model"),
        native_session=value_after(argv, "--resume"),
        new_session=value_after(argv, "--session-id"),
        mcp_servers=tuple({"name": name} for name in servers),
    )


PROFILE = Profile(
    name="claude",
    title="Claude Code",
    executable="claude",
    providers=frozenset({"anthropic"}),
    modes={
        "stream": Mode(
            name="stream",
            dialogue=StreamDialogue,
            launch=launch_stream,
            capabilities=Capabilities(deltas=True, resume=True, steer=True, interrupt=True, mcp=True),
            recorded_turn=recorded_turn,
        ),
        "print": Mode(
            name="print",
            dialogue=PrintDialogue,
            launch=launch_print,
            capabilities=Capabilities(deltas=True, resume=True, mcp=True),
            recorded_turn=recorded_turn,
        ),
    },
    default_mode="stream",
    key_env={"anthropic": KEY},
    endpoints={"anthropic": ANTHROPIC},
    env_names=(
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "API_TIMEOUT_MS",
        "BASH_DEFAULT_TIMEOUT_MS",
        "BASH_MAX_TIMEOUT_MS",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "MAX_THINKING_TOKENS",
        "NODE_EXTRA_CA_CERTS",
        "NO_PROXY",
    ),
    default_model="anthropic/claude-sonnet-4-5",
    known_versions="2.1.197",
    install_hint="npm install -g @anthropic-ai/claude-code",
)
