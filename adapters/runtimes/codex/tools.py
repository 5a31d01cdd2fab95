"""What the runtime says of its items, in canonical words. Pure functions from an item to a call and to its result.

`exec` and `app-server` name the same items in snake_case and camelCase; `snake` makes them one. A file change is one
call for the whole item: `write_file` for a single new file whose content is known, `edit_file` with its edits for a single
changed one, else `edit_file` with the path of the first change and a patch of all (`exec` prints no diffs, so there the
patch may be file headers only, or missing).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from adapters.calls import Named, Result

Item = Mapping[str, Any]

_SHELLS = frozenset({"bash", "sh", "zsh", "dash"})
_FAILED = frozenset({"failed", "declined"})
_SPAWNS = frozenset({"spawn_agent", "spawnAgent"})
_STATUS = {"inProgress": "in_progress"}


def snake(item: Item) -> dict[str, Any]:
    """`item` with its own keys and its type in snake_case; what is inside its values stays as it is."""
    found = {_snake(key): value for key, value in item.items()}
    return found | {"type": _snake(str(found.get("type")))}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def call_of(item: Item) -> Named | None:
    """The call an item (in snake_case) is; None for what is no tool call, or is not yet known to be one."""
    match item["type"]:
        case "command_execution":
            return Named("shell", {"command": unwrap(str(item["command"]))})
        case "file_change":
            return _file_change(item["changes"])
        case "mcp_tool_call":
            return Named(f"mcp:{item['server']}/{item['tool']}", _arguments(item.get("arguments")))
        case "web_search":
            return _web(item)
        case "collab_tool_call" | "collab_agent_tool_call":
            return _collab(item)
        case "image_view":
            return Named("read_file", {"path": item["path"]})
        case "dynamic_tool_call":
            return Named("other", _arguments(item.get("arguments")), str(item["tool"]))
        case "image_generation":
            return Named("other", {}, "image_generation")
        case _:
            return None


def result_of(item: Item) -> Result:
    """What a completed item (in snake_case) gave."""
    failed = item.get("status") in _FAILED or item.get("success") is False
    match item["type"]:
        case "command_execution":
            return Result(item.get("aggregated_output") or "", failed, item.get("exit_code"))
        case "mcp_tool_call":
            return _mcp_result(item, failed)
        case "collab_tool_call" | "collab_agent_tool_call":
            states = item.get("agents_states") or {}
            return Result("\n".join(state["message"] for state in states.values() if state.get("message")), failed)
        case _:
            return Result("", failed)


def unwrap(command: str) -> str:
    """The command the model gave, without the login shell it is run in."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    if len(words) == 3 and words[0].rsplit("/", 1)[-1] in _SHELLS and words[1] in ("-lc", "-c"):
        return words[2]
    return command


def plan_items(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The steps of a plan: `{text, completed}` in exec, `{step, status}` in app-server."""
    return [{"text": str(step.get("step") or step.get("text") or ""), "status": _step_status(step)} for step in steps]


def _step_status(step: Mapping[str, Any]) -> str:
    status = step.get("status")
    if status is None:
        return "completed" if step.get("completed") else "pending"
    return _STATUS.get(status, str(status))


def _arguments(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else {"arguments": value}


def _web(item: Item) -> Named | None:
    """A search is announced before its query is known: then it is no call yet."""
    action = item.get("action") or {}
    if action.get("url"):
        return Named("web_fetch", {"url": action["url"]})
    query = item.get("query") or action.get("query") or " ".join(action.get("queries") or ())
    return Named("web_search", {"query": query}) if query else None


def _collab(item: Item) -> Named:
    tool = str(item["tool"])
    prompt = {"prompt": item["prompt"]} if item.get("prompt") else {}
    return Named("subagent" if tool in _SPAWNS else "other", prompt, tool)


def _file_change(changes: list[Mapping[str, Any]]) -> Named:
    first = changes[0]
    if len(changes) == 1 and _kind(first) == "add" and first.get("diff") is not None:
        return Named("write_file", {"path": first["path"], "content": first["diff"]})
    if len(changes) == 1 and _kind(first) == "update" and first.get("diff") and not _moved(first):
        return Named("edit_file", {"path": first["path"], "edits": _edits(first["diff"])})
    patch = {}
    if len(changes) > 1 or first.get("diff"):
        patch = {"patch": "".join(map(_patch, changes))}
    return Named("edit_file", {"path": first["path"], **patch})


def _kind(change: Mapping[str, Any]) -> str:
    kind = change.get("kind")
    return str(kind.get("type") if isinstance(kind, Mapping) else kind)


def _moved(change: Mapping[str, Any]) -> str | None:
    kind = change.get("kind")
    return kind.get("move_path") if isinstance(kind, Mapping) else None


def _edits(diff: str) -> list[dict[str, str]]:
    """The hunks of a unified diff, each as what stood there and what stands there now."""
    hunks = re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]
    return [{"old": _side(hunk, "-"), "new": _side(hunk, "+")} for hunk in hunks]


def _side(hunk: str, mark: str) -> str:
    return "".join(line[1:] for line in re.findall(r"[^\n]*\n|[^\n]+", hunk) if line[0] in (" ", mark))


def _patch(change: Mapping[str, Any]) -> str:
    """One file of a patch as unified diff. The diff of an added or deleted file is its bare content."""
    kind, path, diff = _kind(change), change["path"], change.get("diff") or ""
    old, new = "/dev/null" if kind == "add" else path, "/dev/null" if kind == "delete" else _moved(change) or path
    mark = {"add": "+", "delete": "-"}.get(kind, "")
    body = "".join(mark + line for line in re.findall(r"[^\n]*\n|[^\n]+", diff))
    return f"--- {old}\n+++ {new}\n{body}{'' if body.endswith(chr(10)) or not body else chr(10)}"


def _mcp_result(item: Item, failed: bool) -> Result:
    result, error = item.get("result"), item.get("error")
    if result is None:
        text = str((error or {}).get("message") or "")
        return Result("The tool reported an error." if failed else "", failed, detail=text)
    return Result("\n".join(_block(block) for block in result.get("content") or ()), failed)


def _block(block: Mapping[str, Any]) -> str:
    return str(block["text"]) if block.get("type") == "text" else f"[{block.get('type')}]"
