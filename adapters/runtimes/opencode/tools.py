"""opencode's tools and errors in canonical words: the same tables for all its modes.

Deliberate: a shell's output is taken from `metadata.output`, because `output` carries opencode's own remarks (where a long
output was saved, that a command was aborted). An `exit` of null means the command was stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapters import acp_tools
from adapters.calls import Named, Result
from adapters.dialogue import Failure
from adapters.events import ErrorCategory

FAILED = "The tool reported an error."
NO_OUTPUT = "(no output)"  # opencode's words; what a command prints itself ends in a newline
_TOOLS = {
    "bash": "shell",
    "read": "read_file",
    "write": "write_file",
    "edit": "edit_file",
    "multiedit": "edit_file",
    "patch": "edit_file",
    "apply_patch": "edit_file",
    "glob": "search_files",
    "grep": "search_files",
    "list": "list_files",
    "webfetch": "web_fetch",
    "websearch": "web_search",
    "codesearch": "web_search",
    "todowrite": "plan",
    "todoread": "plan",
    "task": "subagent",
}
_KEYS: dict[str, dict[str, str]] = {
    "shell": {"command": "command", "timeout_ms": "timeout"},
    "read_file": {"path": "filePath", "offset": "offset", "limit": "limit"},
    "write_file": {"path": "filePath", "content": "content"},
    "edit_file": {"path": "filePath", "patch": "patchText"},
    "list_files": {"path": "path"},
    "search_files": {"pattern": "pattern", "path": "path"},
    "web_fetch": {"url": "url"},
    "web_search": {"query": "query"},
    "subagent": {"prompt": "prompt"},
}
_ERRORS: dict[str, ErrorCategory] = {
    "ProviderAuthError": "auth_error",
    "MessageOutputLengthError": "output_limit",
    "ContextOverflowError": "context_overflow",
    "ContentFilterError": "content_refused",
}
_PATCHED = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (.+)$", re.MULTILINE)
_TASK_RESULT = re.compile(r"<task_result>\n?(.*?)\n?</task_result>", re.DOTALL)


def named(tool: str, input: Mapping[str, Any], servers: Iterable[str]) -> Named:
    canonical = _TOOLS.get(tool) or acp_tools.mcp_tool(tool, servers) or "other"
    if canonical.startswith("mcp:"):
        return Named(canonical, dict(input), tool)
    return Named(canonical, _input(canonical, input), tool)


def _input(tool: str, input: Mapping[str, Any]) -> dict[str, Any]:
    found = {ours: input[theirs] for ours, theirs in _KEYS.get(tool, {}).items() if input.get(theirs) is not None}
    if tool == "plan":
        found["items"] = [{"text": todo.get("content", ""), "status": todo.get("status")} for todo in input.get("todos") or ()]
    if tool == "edit_file":
        found |= _edit(input)
    return found


def _edit(input: Mapping[str, Any]) -> dict[str, Any]:
    """One edit, a list of edits, or the paths a patch names."""
    edits = [edit for edit in input.get("edits") or [input] if "oldString" in edit]
    if edits:
        return {"edits": [{"old": edit["oldString"], "new": edit.get("newString", "")} for edit in edits]}
    patched = _PATCHED.findall(str(input.get("patchText") or ""))
    return {"path": ", ".join(patched)} if patched else {}


def result(tool: str, state: Mapping[str, Any], servers: Iterable[str]) -> Result:
    """The result of a tool part's last `state` (status completed or error)."""
    canonical = named(tool, {}, servers).tool
    metadata = state.get("metadata") or {}
    truncated = metadata.get("truncated") is True
    if state.get("status") == "error":
        error = str(state.get("error") or "")
        return Result(error, True) if canonical.startswith("mcp:") else Result(FAILED, True, detail=error)
    output = str(state.get("output") or "")
    if canonical == "shell":
        return _shell_result(output, metadata, truncated)
    if canonical == "subagent":
        said = _TASK_RESULT.search(output)
        return Result(said[1] if said else output, truncated=truncated)
    return Result(output, tool == "invalid", truncated=truncated)


def _shell_result(output: str, metadata: Mapping[str, Any], truncated: bool) -> Result:
    clean = metadata.get("output")
    if not isinstance(clean, str):
        clean = output
    if clean == NO_OUTPUT:
        clean = output = ""
    code = metadata.get("exit", 0 if "exit" not in metadata else None)
    shown = clean.removeprefix("...\n\n") if truncated else clean
    return Result(shown, code != 0, code, truncated, detail="" if clean == output else output)


def failure(error: Mapping[str, Any], *, begun: bool = True) -> Failure:
    """An opencode error object. A model it does not know is only told as "Unexpected server error", before any step."""
    data = error.get("data") or {}
    text = f"{error.get('name')}: {data.get('message', '')}\n{data.get('responseBody', '')}".strip()
    known = _ERRORS.get(str(error.get("name")))
    if known is not None:
        return Failure(known, text)
    if "Unexpected server error" in text:
        return Failure("runtime_crash" if begun else "model_not_found", text)
    found = acp_tools.failure({"code": data.get("statusCode"), "message": text})
    if found.category == "runtime_crash" and error.get("name") == "APIError":
        return Failure("upstream_api_error", text)
    return found
