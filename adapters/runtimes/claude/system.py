"""What the CLI says of itself: retries and warnings, which the owner reads, and progress, which nobody does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters import events as ev
from adapters.events import Event

_QUIET = frozenset({"tool_progress", "tool_use_summary", "prompt_suggestion", "keep_alive", "command_lifecycle"})
_QUIET_SYSTEM = frozenset(
    {
        "status",
        "thinking",
        "thinking_tokens",
        "task_started",
        "task_progress",
        "task_updated",
        "task_notification",
        "task_summary",
        "hook_started",
        "hook_progress",
        "hook_response",
        "session_state_changed",
        "commands_changed",
        "files_persisted",
        "file_snapshot",
        "turn_duration",
        "post_turn_summary",
    }
)
_NOTICES = frozenset(
    {
        "api_error",
        "compact_boundary",
        "informational",
        "local_command_output",
        "mirror_error",
        "model_consent_fallback",
        "model_fallback",
        "model_refusal_fallback",
        "model_refusal_no_fallback",
        "notification",
        "permission_denied",
        "permission_retry",
        "plugin_install",
    }
)


def is_quiet(message: Mapping[str, Any]) -> bool:
    """A line that is known and says nothing anybody reads."""
    if message.get("type") == "system":
        return message.get("subtype") in _QUIET_SYSTEM
    return message.get("type") in _QUIET


def notices(message: Mapping[str, Any]) -> list[Event] | None:
    """The events of a `system` line; None for one nobody knows."""
    subtype = str(message.get("subtype"))
    if subtype == "api_retry":
        return [ev.notice("retry", _retry(message))]
    if subtype in _NOTICES:
        return [ev.notice(subtype, str(message.get("content") or message.get("message") or ""))]
    return [] if subtype in _QUIET_SYSTEM else None


def dead_servers(init: Mapping[str, Any]) -> list[Event]:
    """MCP servers that did not start: they show nowhere else."""
    dead = [server for server in init.get("mcp_servers") or [] if server.get("status") not in ("connected", "pending")]
    return [ev.notice("mcp_server", f"{server.get('name')}: {server.get('status')}") for server in dead]


def _retry(message: Mapping[str, Any]) -> str:
    seconds = (message.get("retry_delay_ms") or 0) / 1000
    why = f"{message.get('error_status') or 'no answer'}, {message.get('error') or 'unknown'}"
    return f"attempt {message.get('attempt')} of {message.get('max_retries')} failed ({why}); next in {seconds:.1f} s"
