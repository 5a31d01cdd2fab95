"""What the CLI says of its tools, in canonical words: the name and input of a call, and what it gave.

`tool_use_result` beside a result is the tool's own output; the result's `content` is what the model reads, with the
CLI's remarks in it ("Exit code 1", "(Bash completed with no output)", a preview with the path of a saved file). So
the former is used where there is one (there is none for failures and inside sub-agents) and remarks are cut off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adapters.calls import Named, Result

Input = Mapping[str, Any]


def _renamed(tool: str, **keys: str) -> Callable[[Input], Named]:
    def call(input: Input) -> Named:
        return Named(tool, {key: input[theirs] for key, theirs in keys.items() if input.get(theirs) is not None})

    return call


def _edit(input: Input) -> Named:
    return Named("edit_file", _path(input) | {"edits": [_change(input)]})


def _multi_edit(input: Input) -> Named:
    return Named("edit_file", _path(input) | {"edits": [_change(edit) for edit in input.get("edits") or ()]})


def _notebook(input: Input) -> Named:
    return Named("edit_file", _path(input) | {"edits": [{"old": "", "new": str(input.get("new_source") or "")}]})


def _path(input: Input) -> dict[str, Any]:
    path = input.get("file_path") or input.get("notebook_path")
    return {"path": path} if path else {}


def _change(edit: Input) -> dict[str, str]:
    return {"old": str(edit.get("old_string") or ""), "new": str(edit.get("new_string") or "")}


def _todos(input: Input) -> Named:
    items = [{"text": todo["content"], "status": todo["status"]} for todo in input["todos"]]
    return Named("plan", {"items": items})


_subagent = _renamed("subagent", prompt="prompt")
_TOOLS: dict[str, Callable[[Input], Named]] = {
    "Bash": _renamed("shell", command="command", timeout_ms="timeout"),
    "Read": _renamed("read_file", path="file_path", offset="offset", limit="limit"),
    "Write": _renamed("write_file", path="file_path", content="content"),
    "Edit": _edit,
    "MultiEdit": _multi_edit,
    "NotebookEdit": _notebook,
    "LS": _renamed("list_files", path="path"),
    "Glob": _renamed("search_files", pattern="pattern", path="path"),
    "Grep": _renamed("search_files", pattern="pattern", path="path"),
    "WebFetch": _renamed("web_fetch", url="url"),
    "WebSearch": _renamed("web_search", query="query"),
    "TodoWrite": _todos,
    "Task": _subagent,
    "Agent": _subagent,
}


def call_of(name: str, input: Input, servers: Iterable[str]) -> Named:
    """A call in canonical words. Of a tool nobody knows, or an input the model got wrong, only the owner reads more."""
    if name.startswith("mcp__"):
        return Named(_mcp(name, servers), dict(input))
    try:
        return _TOOLS[name](input)
    except (KeyError, TypeError, AttributeError):
        return Named("other", {}, name)


def _mcp(name: str, servers: Iterable[str]) -> str:
    """`mcp__<server>__<tool>`, where every character of the server's name that is none of A-Za-z0-9_- became `_`."""
    for server in sorted(servers, key=len, reverse=True):
        prefix = f"mcp__{re.sub(r'[^A-Za-z0-9_-]', '_', server)}__"
        if name.startswith(prefix):
            return f"mcp:{server}/{name[len(prefix) :]}"
    server, _, tool = name[len("mcp__") :].partition("__")
    return f"mcp:{server}/{tool}"


_EXIT_CODE = re.compile(r"(?:Error: )?Exit code (\d+)(?:\n|$)(?:Command timed out after [^\n]*(?:\n|$))?")
_REMARKS = re.compile(r"\(Bash completed with no output\)|\n?Shell cwd was reset to [^\n]*")
_CUT = re.compile(r"\.\.\. \[\d+ (?:characters|lines) truncated\] \.\.\.")
_SAVED = re.compile(r"<persisted-output>.*?\nPreview [^\n]*\n(.*?)(?:\n\.\.\.)?\n?</persisted-output>", re.DOTALL)
_PROSE = re.compile(
    r"<tool_use_error>|<persisted-output>|Error: (?:result \(|No such tool)|MCP tool .* response \(|The user doesn't want"
    r"|Claude requested|Permission to use|\[Request interrupted|This command requires approval"
)


def result_of(tool: str, block: Mapping[str, Any], own: Any) -> Result:
    """What a `tool_result` block gave; `own` is the `tool_use_result` beside it."""
    said, is_error = text_of(block.get("content")), block.get("is_error") is True
    if tool == "shell":
        return _failed_shell(said) if is_error else _shell(said, own)
    if tool == "subagent":
        return Result("", True, detail=said) if is_error else Result(_subagent_text(block, own))
    if tool.startswith("mcp:"):
        return _mcp_result(said, is_error, own)
    return Result(said, is_error)


def _shell(said: str, own: Any) -> Result:
    if not isinstance(own, Mapping):
        saved = _SAVED.match(said)
        return Result(_REMARKS.sub("", saved[1] if saved else said), exit_code=0, truncated=saved is not None)
    if own.get("backgroundTaskId"):
        return Result("", detail=said)
    output = str(own.get("stdout") or "") + _REMARKS.sub("", str(own.get("stderr") or ""))
    truncated = own.get("persistedOutputPath") is not None
    if own.get("interrupted") is True:
        return Result(output, True, None, truncated)
    # Said instead of exit code 1 for commands such as grep ("No matches found"), which the CLI calls no error.
    code = 1 if own.get("returnCodeInterpretation") else 0
    return Result(output, code != 0, code, truncated)


def _failed_shell(said: str) -> Result:
    """A command that failed, or that the CLI did not run or stopped: then nothing of `said` is the command's own."""
    found = _EXIT_CODE.match(said)
    if found is None:
        return Result("", True, detail=said)
    output = _REMARKS.sub("", said[found.end() :])
    return Result(output, True, int(found[1]), _CUT.search(output) is not None)


def _mcp_result(said: str, is_error: bool, own: Any) -> Result:
    """A server's own words, however long; the CLI's remark where there are none."""
    whole = "" if is_error else text_of(own.get("content") if isinstance(own, Mapping) else own)
    output = whole or said
    if _PROSE.match(output):
        return Result("", is_error, truncated=not is_error, detail=output)
    return Result(output, is_error)


def _subagent_text(block: Mapping[str, Any], own: Any) -> str:
    """What the sub-agent answered, without the CLI's remarks on how to go on with it."""
    if isinstance(own, Mapping):
        return text_of(own.get("content"))
    content = block.get("content")
    return text_of(content[:1] if isinstance(content, list) else content)


def text_of(content: Any) -> str:
    """The text of a `content`, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")
