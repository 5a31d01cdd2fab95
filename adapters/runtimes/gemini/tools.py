"""The CLI's tools in canonical words: names, inputs, and what a finished call said, freed of the CLI's own prose.

A shell command's exit code is printed nowhere. So `EXIT_SCRIPT` is given to every bash the CLI starts (`BASH_ENV`): it
makes a command that fails end its output with a line `[exit code N]`, which is taken out again here. It unsets BASH_ENV,
so that nested shells are as ever, and the CLI runs the command itself in a subshell, so that its `exec` and `trap` do
not get in the way. stdout and stderr are two pipes to the CLI: the line may come before the last lines of stderr.
Without it the command is taken to have succeeded (0). That is wrong for binary output, which the CLI drops whole, and
for a bash killed by SIGKILL after it printed something; and a command that succeeds but prints such a line itself
counts as failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adapters.calls import Named, Result

EXIT_SCRIPT = """unset BASH_ENV
trap '__code=$?; [ $__code -eq 0 ] || printf "\\n[exit code %d]\\n" "$__code"' EXIT
"""
_EXIT_LINE = re.compile(r"\n{0,2}^\[exit code (\d{1,3})\]$\n?", re.MULTILINE)
_CUT = re.compile(r"\n\[GEMINI_CLI_WARNING: Output truncated\.[^\]\n]*\]\s*\Z")
_ERROR = "The tool reported an error."

Input = Mapping[str, Any]


def call(name: str, parameters: Input, servers: Iterable[str]) -> Named:
    """A call of the tool `name` in canonical words."""
    mcp = mcp_tool(name, servers)
    if mcp:
        return Named(mcp, dict(parameters), name)
    tool, read = _TOOLS.get(name, ("other", _nothing))
    return Named(tool, {key: value for key, value in read(parameters).items() if value is not None}, name)


def canonical(name: str) -> str:
    return _TOOLS.get(name, ("other", _nothing))[0]


def mcp_tool(name: str, servers: Iterable[str]) -> str | None:
    """`mcp_server_tool` as `mcp:server/tool`. Both parts may have underscores: known servers tell where to cut."""
    if not name.startswith("mcp_"):
        return None
    for server in sorted(servers, key=len, reverse=True):
        start = "mcp_" + re.sub(r"[^\w.:-]", "_", server) + "_"
        if name.startswith(start):
            return f"mcp:{server}/{name[len(start) :]}"
    server, _, tool = name.removeprefix("mcp_").partition("_")
    return f"mcp:{server}/{tool}"


def result(tool: str, output: str, error: Mapping[str, Any] | None = None) -> Result:
    """What a finished call said. `error` is the CLI's own, which says why a call did not work at all."""
    if error is None:
        return _shell(output) if tool == "shell" else Result(output)
    detail = "\n".join(dict.fromkeys(filter(None, [output, str(error.get("message") or "")])))
    said = _mcp_words(str(error.get("message") or "")) if tool.startswith("mcp:") else None
    return Result(said or _ERROR, is_error=True, detail=detail)


def _shell(output: str) -> Result:
    whole = _CUT.sub("", output)
    codes = _EXIT_LINE.findall(whole)
    words = _EXIT_LINE.sub("\n", whole).strip("\n") if codes else whole
    for pattern, neutral, failed in _SAYINGS:
        found = pattern.fullmatch(words)
        if found:
            said = found.groupdict()
            return Result(said.get("output") or neutral, failed, _code(said), detail=output)
    code = int(codes[-1]) if codes else 0
    return Result(words, code != 0, code, truncated=whole != output)


_SAYINGS = (
    (re.compile(r"Command exited with code: (?P<code>-?\d+)"), "", True),
    (re.compile(r"Command terminated by signal: (?P<signal>\d+)"), "", True),
    (re.compile(r"Blocked: command substitution detected in shell command\."), "The command was not run.", True),
    (re.compile(r"Command moved to background \(PID: \d+\)\..*", re.DOTALL), "The command goes on in the background.", False),
    (re.compile(r"Background process started with PID \d+\."), "The command goes on in the background.", False),
    (
        re.compile(
            r"(?:Command cancelled by user\.|Command was automatically cancelled because it exceeded the timeout of [^\n]*)"
            r"(?:\n\nOutput before cancellation:\n(?P<output>.*))?",
            re.DOTALL,
        ),
        "The command was stopped.",
        True,
    ),
)


def _code(said: Mapping[str, str | None]) -> int | None:
    if said.get("code"):
        return int(said["code"] or 0)
    if said.get("signal"):
        return 128 + int(said["signal"] or 0)
    return None


def _mcp_words(message: str) -> str | None:
    """The server's own words in `... with response: [{"functionResponse": {"response": {"content": [...]}}}]`."""
    try:
        parts = json.loads(message.partition(" with response: ")[2])
        blocks = [block for part in parts for block in part["functionResponse"]["response"]["content"]]
        return "\n".join(str(block["text"]) for block in blocks if block.get("type") == "text") or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _nothing(_: Input) -> dict[str, Any]:
    return {}


def _first(given: Input, *names: str) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _path(given: Input) -> Any:
    return _first(given, "file_path", "absolute_path", "dir_path", "path")


def _read_file(given: Input) -> dict[str, Any]:
    start, end = given.get("start_line"), given.get("end_line")
    limit = end - (start or 1) + 1 if isinstance(end, int) else given.get("limit")
    return {"path": _path(given), "offset": start if start is not None else given.get("offset"), "limit": limit}


def _read_many(given: Input) -> dict[str, Any]:
    paths = _first(given, "include", "paths") or []
    return {"path": ", ".join(map(str, paths)) if isinstance(paths, list) else str(paths)}


def _edit(given: Input) -> dict[str, Any]:
    return {"path": _path(given), "edits": [{"old": given.get("old_string", ""), "new": given.get("new_string", "")}]}


def _fetch(given: Input) -> dict[str, Any]:
    """web_fetch has one parameter: a prompt with the addresses in it."""
    prompt = str(_first(given, "url", "prompt") or "")
    found = re.search(r"https?://[^\s'\"<>)\]]+", prompt)
    return {"url": found.group(0).rstrip(".,;:!?") if found else prompt}


def _plan(given: Input) -> dict[str, Any]:
    todos = given.get("todos") or []
    return {"items": [{"text": str(todo.get("description", "")), "status": todo.get("status", "pending")} for todo in todos]}


def _prompt(given: Input) -> dict[str, Any]:
    return {"prompt": _first(given, "prompt", "objective", "query", "task", "question", "request")}


_TOOLS: Mapping[str, tuple[str, Callable[[Input], dict[str, Any]]]] = {
    "run_shell_command": ("shell", lambda given: {"command": given.get("command")}),
    "read_file": ("read_file", _read_file),
    "read_many_files": ("read_file", _read_many),
    "write_file": ("write_file", lambda given: {"path": _path(given), "content": given.get("content")}),
    "replace": ("edit_file", _edit),
    "list_directory": ("list_files", lambda given: {"path": _path(given)}),
    "glob": ("search_files", lambda given: {"pattern": given.get("pattern"), "path": _path(given)}),
    "grep_search": ("search_files", lambda given: {"pattern": given.get("pattern"), "path": _path(given)}),
    "search_file_content": ("search_files", lambda given: {"pattern": given.get("pattern"), "path": _path(given)}),
    "web_fetch": ("web_fetch", _fetch),
    "google_web_search": ("web_search", lambda given: {"query": given.get("query")}),
    "write_todos": ("plan", _plan),
    "invoke_agent": ("subagent", _prompt),
    "codebase_investigator": ("subagent", _prompt),
    "generalist": ("subagent", _prompt),
    "cli_help": ("subagent", _prompt),
}
