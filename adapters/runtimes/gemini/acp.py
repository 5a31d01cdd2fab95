"""The CLI's ACP mode (`--acp`): one process, many turns, and `session/cancel`.

Its habits: a call's id begins with the name of its tool; there is no raw input, only a title, locations and, once an edit
is done, its diff, so an edit is told when it is done; a second prompt cancels the running one, so steering is not
supported; `session/load` in a new process fails ("No previous sessions found for this project"), so there is no native
resume. Exit codes of commands: see `tools`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from adapters import acp_tools
from adapters.acp import AcpDialogue
from adapters.acp_tools import Call
from adapters.calls import Named, Result
from adapters.dialogue import Failure, category_of_status
from adapters.runtimes.gemini import failures, tools
from adapters.runtimes.gemini.dialogue import as_text

_ID = re.compile(r"(?P<name>.+?)__(?P=name)_\d+_\d+")
_TITLES = {
    "list_files": re.compile(r"(?P<path>.+)"),
    "search_files": re.compile(r"'(?P<pattern>.*?)'(?: .*)?"),
    "web_search": re.compile(r'Searching the web for: "(?P<query>.*)"'),
}


class GeminiAcpDialogue(AcpDialogue):
    mode_id: ClassVar[str | None] = "yolo"
    sends_system_prompt: ClassVar[bool] = False

    def tool_of(self, call: Call) -> Named:
        name = _name(call)
        if not name:
            return super().tool_of(call)
        mcp = tools.mcp_tool(name, self.servers())
        if mcp:
            return Named(mcp, acp_tools.raw_input(call), name)
        tool = tools.canonical(name)
        return Named(tool, acp_tools.canonical_input(tool, _from_title(tool, call), call), name)

    def ready(self, call: Call) -> bool:
        return super().ready(call) and (call.get("kind") != "edit" or bool(acp_tools.diffs(call)))

    def result_of(self, update: Call, call: Call) -> Result:
        text, tool = acp_tools.content_text(update.get("content")), self.tool_of(call).tool
        return tools.result(tool, "", {"message": text}) if update.get("status") == "failed" else tools.result(tool, text)

    def usage_of(self, result: Mapping[str, Any]) -> dict[str, Any]:
        count = ((result.get("_meta") or {}).get("quota") or {}).get("token_count") or {}
        return {key: int(count.get(key) or 0) for key in ("input_tokens", "output_tokens")} if count else {}

    def failure_of_error(self, error: Mapping[str, Any]) -> Failure:
        """API errors come with the HTTP status as their code."""
        code, text = error.get("code"), str(error.get("message") or "")
        category = failures.category_of_text(text)
        if category is None and isinstance(code, int) and 400 <= code < 600:
            category = category_of_status(code)
        return Failure(category, text) if category else super().failure_of_error(error)

    def prompt_of(self, text: str) -> list[dict[str, Any]]:
        return super().prompt_of(as_text(text))


def _name(call: Call) -> str:
    found = _ID.fullmatch(str(call.get("toolCallId")))
    return found["name"] if found else ""


def _from_title(tool: str, call: Call) -> dict[str, str]:
    """The input of a call as far as its title tells it; for edits and reads the locations do."""
    found = _TITLES[tool].fullmatch(str(call.get("title") or "")) if tool in _TITLES else None
    return found.groupdict() if found else {}
