"""What ACP says in canonical words: tool calls, errors and choices, read generically, for agents nobody knows better.

ACP names no tools: a call has a `kind`, a `title` for people and, if the agent cares to, `rawInput` under the agent's
own keys. An agent that is known better overrides `AcpDialogue.tool_of` and `AcpDialogue.result_of`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from adapters.calls import Named, Result
from adapters.dialogue import Failure, category_of_status
from adapters.events import ErrorCategory

Call = Mapping[str, Any]  # a `tool_call` with all updates so far merged into it


Choice = tuple[str, dict[str, Any]]  # a request that sets a mode, a model or an option of a session


_KINDS = {
    "execute": "shell",
    "read": "read_file",
    "edit": "edit_file",
    "search": "search_files",
    "fetch": "web_fetch",
}
_ALIASES = {
    "command": ("command", "cmd", "script"),
    "timeout_ms": ("timeout_ms", "timeout"),
    "path": ("path", "file_path", "filePath", "absolute_path", "abs_path", "dir_path", "filename"),
    "offset": ("offset", "line"),
    "limit": ("limit",),
    "content": ("content", "contents", "file_text"),
    "pattern": ("pattern", "query", "regex"),
    "url": ("url", "uri"),
    "query": ("query",),
    "prompt": ("prompt", "task"),
}
_KEYS = {
    "shell": ("command", "timeout_ms"),
    "read_file": ("path", "offset", "limit"),
    "write_file": ("path", "content"),
    "edit_file": ("path",),
    "list_files": ("path",),
    "search_files": ("pattern", "path"),
    "web_fetch": ("url",),
    "web_search": ("query",),
    "subagent": ("prompt",),
}
_OLD = ("old", "old_string", "oldString", "oldText", "old_str")
_NEW = ("new", "new_string", "newString", "newText", "new_str")
_FILE_TOOLS = ("read_file", "write_file", "edit_file")
_CODES: dict[int, ErrorCategory] = {
    -32000: "auth_error",  # AUTH_REQUIRED
    -32600: "protocol_error",
    -32601: "protocol_error",
    -32602: "protocol_error",
    -32700: "protocol_error",
}
_TEXTS: tuple[tuple[str, ErrorCategory], ...] = (
    (r"insufficient.quota|exceeded your current quota|quota exceeded|daily quota|billing|credit balance", "quota_exceeded"),
    (r"context.?(?:window|length|overflow)|too many tokens|prompt is too long|maximum context", "context_overflow"),
    (r"rate.?limit|too many requests|resource.?(?:has been )?exhausted|\b429\b", "rate_limit"),
    (r"api.?key|unauthori[sz]ed|authenticat|not logged in|log ?in|\b401\b", "auth_error"),
    (
        r"model\b.*(?:not found|does not exist|not supported)|(?:unknown|no such) model|not found for api",
        "model_not_found",
    ),
    (r"permission|forbidden|\b403\b", "permission_denied"),
    (r"content.?(?:filter|policy)|safety|refus", "content_refused"),
    (
        r"connect|time.?out|timed out|overloaded|unavailable|network|terminated|fetch failed"
        r"|server (?:had an )?error|server_error|\b5\d\d\b",
        "upstream_api_error",
    ),
)


def named(call: Call, servers: Iterable[str]) -> Named:
    """The generic reading of a call."""
    title = str(call.get("title") or "")
    raw = raw_input(call)
    mcp = mcp_tool(title, servers)
    if mcp:
        return Named(mcp, raw, title)
    tool = _KINDS.get(str(call.get("kind")), "other")
    if tool == "edit_file" and _is_new_file(call, raw):
        tool = "write_file"
    input = canonical_input(tool, raw, call)
    return Named(tool, input, "" if title == input.get("command") else title)


def raw_input(call: Call) -> dict[str, Any]:
    raw = call.get("rawInput")
    return dict(raw) if isinstance(raw, Mapping) else {}


def canonical_input(tool: str, raw: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Canonical keys from the agent's raw input and, where that is silent, from the call's locations, diffs and title."""
    found = {key: _first(raw, _ALIASES[key]) for key in _KEYS.get(tool, ())}
    if tool == "shell":
        found["command"] = _command(found["command"]) or _title_command(call)
    if tool in _FILE_TOOLS:
        found["path"] = found["path"] or _location(call)
    if tool == "write_file" and found["content"] is None:
        found["content"] = next((diff.get("newText") for diff in diffs(call)), None)
    if tool == "edit_file":
        found["edits"] = _edits(call, raw) or None
    return {key: value for key, value in found.items() if value is not None}


def mcp_tool(name: str, servers: Iterable[str]) -> str | None:
    """`mcp:<server>/<tool>` where `name` is a tool of one of the configured servers, as the known agents spell it."""
    for server in sorted(servers, key=len, reverse=True):
        slug = re.escape(re.sub(r"[^A-Za-z0-9_-]", "_", server))
        spelled = rf"(?:mcp_+)?(?:{slug}|{re.escape(server)})(?:__|_|/|\.|: ?)(?P<tool>[\w.-]+)"
        shown = rf"(?P<tool>[\w.-]+) \({re.escape(server)} MCP Server\)"
        found = re.fullmatch(spelled, name) or re.match(shown, name)
        if found:
            return f"mcp:{server}/{found['tool']}"
    return None


def result(update: Call, call: Call) -> Result:
    """The generic reading of the update that finished a call."""
    raw = update.get("rawOutput")
    code = _exit_code(raw)
    output = content_text(update.get("content")) or _raw_text(raw)
    return Result(output, update.get("status") == "failed" or code not in (None, 0), code)


def mcp_servers(servers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The MCP servers of a turn as session/new wants them."""
    return [_mcp_server(server) for server in servers]


def _mcp_server(server: Mapping[str, Any]) -> dict[str, Any]:
    if "url" in server:
        headers = _pairs(server.get("headers"))
        return {"type": server.get("type") or "http", "name": server["name"], "url": server["url"], "headers": headers}
    command, args = server["command"], [*map(str, server.get("args") or ())]
    if isinstance(command, list | tuple):
        command, *first = command
        args = [*first, *args]
    return {"name": server["name"], "command": command, "args": args, "env": _pairs(server.get("env"))}


def _pairs(values: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in (values or {}).items()]


def content_text(content: Any) -> str:
    """The text in a call's content blocks."""
    blocks = content if isinstance(content, list) else []
    inner = [block["content"] for block in blocks if block.get("type") == "content"]
    return "\n".join(str(block["text"]) for block in inner if block.get("type") == "text")


def diffs(call: Call) -> list[Mapping[str, Any]]:
    return [block for block in call.get("content") or [] if block.get("type") == "diff"]


def _first(raw: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _command(value: Any) -> str | None:
    if isinstance(value, list):
        shell = len(value) == 3 and value[1] in ("-c", "-lc")
        return str(value[2]) if shell else shlex.join(map(str, value))
    return None if value is None else str(value)


def _title_command(call: Call) -> str | None:
    title = str(call.get("title") or "").strip()
    return title.strip("`") or None


def _location(call: Call) -> str | None:
    places = call.get("locations") or []
    return str(places[0]["path"]) if places else None


def _is_new_file(call: Call, raw: Mapping[str, Any]) -> bool:
    if _first(raw, _OLD) is not None:
        return False
    found = diffs(call)
    return _first(raw, _ALIASES["content"]) is not None or (len(found) == 1 and not found[0].get("oldText"))


def _edits(call: Call, raw: Mapping[str, Any]) -> list[dict[str, str]]:
    old = _first(raw, _OLD)
    if old is not None:
        return [{"old": str(old), "new": str(_first(raw, _NEW) or "")}]
    return [{"old": str(diff.get("oldText") or ""), "new": str(diff.get("newText") or "")} for diff in diffs(call)]


def _exit_code(raw: Any) -> int | None:
    if not isinstance(raw, Mapping):
        return None
    metadata = raw.get("metadata")
    code = _first(raw, ("exit_code", "exitCode", "exit"))
    if code is None and isinstance(metadata, Mapping):
        code = metadata.get("exit")
    return code if isinstance(code, int) else None


def _raw_text(raw: Any) -> str:
    if isinstance(raw, Mapping):
        raw = _first(raw, ("output", "stdout", "text", "error"))
    return raw if isinstance(raw, str) else ""


def category_of_text(text: str) -> ErrorCategory | None:
    """The category a model provider's error text speaks of, if it can be told."""
    low = text.lower()
    return next((category for pattern, category in _TEXTS if re.search(pattern, low, re.DOTALL)), None)


def failure(error: Mapping[str, Any]) -> Failure:
    """A JSON-RPC error as a category: a telling HTTP status, then what the text says, then any status, then the code."""
    code, text, status = error.get("code"), error_text(error), _status_of(error)
    if status is not None and status not in (400, 403, 404, 429):
        return Failure(category_of_status(status), text)
    known = _CODES.get(code, "runtime_crash") if isinstance(code, int) else "runtime_crash"
    return Failure(category_of_text(text) or (category_of_status(status) if status else known), text)


def error_text(error: Mapping[str, Any]) -> str:
    """All the text of an error: agents hide the reason in `data`."""
    data = error.get("data")
    more = "\n".join(str(value) for value in data.values()) if isinstance(data, Mapping) else str(data or "")
    return f"{error.get('message', '')}\n{more}".strip()


def _status_of(error: Mapping[str, Any]) -> int | None:
    """An HTTP status, where the agent gives it as the error's code or beside the text."""
    data = error.get("data")
    beside = [data.get(key) for key in ("statusCode", "status", "httpStatus")] if isinstance(data, Mapping) else []
    return next((value for value in (error.get("code"), *beside) if isinstance(value, int) and 400 <= value < 600), None)


def usage(result: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts from the answer to session/prompt: the draft's `usage`, or the counts some agents put into `_meta`."""
    said = result.get("usage")
    names = {"input_tokens": "inputTokens", "output_tokens": "outputTokens", "cached_tokens": "cachedReadTokens"}
    if not isinstance(said, Mapping):
        said = ((result.get("_meta") or {}).get("quota") or {}).get("token_count") or {}
        names = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
    return {ours: int(said[theirs]) for ours, theirs in names.items() if said.get(theirs) is not None}


def choices(offered: Mapping[str, Any], mode: str | None, pick: Callable[[list[str]], str | None]) -> list[Choice]:
    """The requests that choose `mode` and the model `pick` finds, where the answer to session/new offers them."""
    modes, models = offered.get("modes") or {}, offered.get("models") or {}
    mode_ids = [each["id"] for each in modes.get("availableModes") or ()]
    model_ids = [each["modelId"] for each in models.get("availableModels") or ()]
    out: list[Choice] = []
    if mode in mode_ids and mode != modes.get("currentModeId"):
        out.append(("session/set_mode", {"modeId": mode}))
    model = pick(model_ids)
    if model and model != models.get("currentModelId"):
        out.append(("session/set_model", {"modelId": model}))
    for option in offered.get("configOptions") or ():
        values = [str(choice["value"]) for choice in option.get("options") or () if "value" in choice]
        wanted = {"model": pick(values), "mode": mode if mode in values else None}.get(str(option.get("category")))
        if wanted and wanted != option.get("currentValue"):
            out.append(("session/set_config_option", {"configId": option["id"], "value": wanted}))
    return out
