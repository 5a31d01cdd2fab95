"""The tools of the sandbox: what each takes, what all answer, and under which canonical name callers see them.

What is wrong with an input is answered as a failed result, in words for whoever chose it: a model can mend it. The same
models make the JSON Schemas that MCP clients are given.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gateway.errors import InvalidParams

ROOT = "/workspace"
MAX_COMMAND = 100_000  # bytes
MAX_FILE = 10 * 2**20  # bytes read or written by one call
MAX_TOLD = 30_000  # characters of one text of an input, as callers see it
SECONDS, MAX_SECONDS = 120, 3600  # of a command

Path = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Encoding = Literal["utf-8", "base64"]
_PATH = f"Relative to {ROOT}, or below it."


class Input(BaseModel):
    model_config = ConfigDict(extra="ignore")  # models add words of their own


class Bash(Input):
    command: str = Field(min_length=1, description="Run by bash, or by sh where the image has no bash.")
    timeout_ms: int = Field(SECONDS * 1000, ge=1, le=MAX_SECONDS * 1000, description="Then it is ended.")


class Read(Input):
    path: Path = Field(description=_PATH)
    offset: int | None = Field(None, ge=0, description="First line, from 1. With base64: bytes to leave out.")
    limit: int | None = Field(None, ge=1, description="Lines at most. With base64: bytes.")
    encoding: Encoding = Field("utf-8", description="base64 for what is no text.")


class Write(Input):
    path: Path = Field(description=f"{_PATH} Folders on the way are made.")
    content: str
    encoding: Encoding = Field("utf-8", description="base64: `content` is decoded first.")


class Replacement(Input):
    old: str = Field(min_length=1, description="Must stand in the file exactly once.")
    new: str


class Edit(Input):
    path: Path = Field(description=_PATH)
    edits: list[Replacement] = Field(min_length=1, max_length=1000, description="One after another; all of them or none.")


class Ls(Input):
    path: Path = Field(".", description=_PATH)


class Glob(Input):
    pattern: str = Field(min_length=1, max_length=1000, description="Such as `**/*.py`; `*` and `?` stay in one folder.")
    path: Path = Field(".", description=_PATH)


class Grep(Input):
    pattern: str = Field(min_length=1, max_length=10_000, description="An extended regular expression (grep -E).")
    path: Path = Field(".", description=f"A folder or a file. {_PATH}")
    glob: str | None = Field(
        None,
        max_length=1000,
        description="Only in files whose path below `path` is such; a pattern without `/` is of their name.",
    )
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    canonical: str
    takes: type[Input]
    says: str
    reads_only: bool = True

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its input: one object, without references and what says nothing."""
        schema = self.takes.model_json_schema()
        found: dict[str, Any] = _plain(schema, schema.get("$defs", {}))
        return found


def _plain(value: Any, named: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_plain(one, named) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _plain(named[value["$ref"].rpartition("/")[2]], named)
    if "anyOf" in value:  # a type or null: left out, then
        value = {**value.pop("anyOf")[0], **value}
    silent = {name for name in ("$defs", "title") if not isinstance(value.get(name), dict) or name == "$defs"}
    silent |= {"default"} if value.get("default", "") is None else set()
    return {name: _plain(one, named) for name, one in value.items() if name not in silent}


_ALL = (
    Tool("bash", "shell", Bash, "Run a command. Both its outputs come as one, in order.", reads_only=False),
    Tool("read", "read_file", Read, "Read a file, or some lines of it."),
    Tool("write", "write_file", Write, "Write a file, new or whole.", reads_only=False),
    Tool("edit", "edit_file", Edit, "Replace texts in a file, each of which must stand there exactly once.", reads_only=False),
    Tool("ls", "list_files", Ls, "List a folder; folders end with a slash."),
    Tool("glob", "search_files", Glob, "Find files by their path."),
    Tool("grep", "search_files", Grep, "Find lines of text files: path:line:text. What git keeps for itself is left out."),
)
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}


@dataclass(frozen=True, slots=True)
class Result:
    """`exit_code`: of a command that ended by itself. `interrupted`: whether it ran is not known."""

    output: str
    is_error: bool = False
    exit_code: int | None = None
    truncated: bool = False
    encoding: Encoding = "utf-8"
    timed_out: bool = False
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        names = ("output", "is_error", "exit_code", "truncated", "encoding", "timed_out", "interrupted")
        return {name: getattr(self, name) for name in names}


def wrong(said: str) -> Result:
    return Result(said, is_error=True)


def input_of(name: str, given: Any) -> Input:
    """Raises InvalidParams, in words for whoever chose the input."""
    tool = TOOLS.get(name)
    if tool is None:
        raise InvalidParams(f"There is no tool {name[:80]!r}.", f"There are: {', '.join(TOOLS)}.")
    try:
        found = tool.takes.model_validate(given)
    except ValidationError as exc:
        said = [f"{'.'.join(map(str, one['loc'])) or 'input'}: {one['msg']}" for one in exc.errors(include_url=False)[:3]]
        raise InvalidParams(f"The input of {name} makes no sense: {'; '.join(said)}.", "Give it as its schema says.") from exc
    if isinstance(found, Bash) and len(found.command.encode("utf-8", "replace")) > MAX_COMMAND:
        raise InvalidParams(f"The command has more than {MAX_COMMAND} bytes.", "Write it into a file first, and run that.")
    if isinstance(found, Edit) and sum(len(one.new) for one in found.edits) > MAX_FILE:
        raise InvalidParams(f"The new texts have more than {MAX_FILE} characters.", "Make fewer edits at once.")
    if isinstance(found, Write):
        content_of(found)  # nothing waits that is refused later
    if isinstance(found, Bash) and "\0" in found.command:
        raise InvalidParams("The command has a NUL character, which none can have.", "Leave it out.")
    return found


def content_of(given: Write) -> bytes:
    """Raises InvalidParams."""
    try:
        content = given.content.encode() if given.encoding == "utf-8" else base64.b64decode(given.content, validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise InvalidParams(f"The content is no {given.encoding}: {exc}.", "Send UTF-8 text, or base64 and say so.") from exc
    if len(content) > MAX_FILE:
        raise InvalidParams(
            f"The content has {len(content)} bytes; at most {MAX_FILE} are written.", "Write it in pieces, by bash."
        )
    return content


def told(input: Input) -> dict[str, Any]:
    """An input under its canonical keys, long texts cut, for the log."""
    match input:
        case Bash():
            found: dict[str, Any] = input.model_dump(include={"command", "timeout_ms"}, exclude_unset=True)
        case Read():
            found = {"path": input.path, "offset": input.offset, "limit": input.limit}
        case Write():
            found = {"path": input.path, "content": input.content if input.encoding == "utf-8" else "(binary)"}
        case Edit():
            found = {"path": input.path, "edits": [{"old": _cut(one.old), "new": _cut(one.new)} for one in input.edits[:100]]}
        case _:
            found = input.model_dump(include={"path", "pattern"})
    return {name: _cut(value) if isinstance(value, str) else value for name, value in found.items() if value is not None}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}[... {len(text) - MAX_TOLD} characters more]"
