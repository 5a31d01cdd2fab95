"""A runtime as a sans-I/O state machine, modelled on h11: lines in, events and outgoing lines out.

    start(turn) -> Step          lines for stdin, if any
    feed(line)  -> Step          events, and answers for stdin
    steer(text, id) -> outgoing lines, or Unsupported; once the runtime has taken it: the event `steered` with that id
    interrupt() -> outgoing lines, or Unsupported
    finish(exit) -> events       the end of the process; every started turn has ended in exactly one `done`

One dialogue lives as long as one process. A one-shot CLI has one turn; a two-way CLI may be given `start` again after
a `done`. Whatever is the same for every vendor is here: minting call ids, closing tools that never answered, one
`done` a turn, keeping lines nobody knows, and making tool results look alike. A vendor's dialogue overrides `on_start`
and `on_message` (and `on_exit`, `steer`, `interrupt` where it can more).

Deliberate: the output of tools that speak in the vendor's own prose (file and web tools) goes to the owner's
`tool_detail`, never to callers: "File created successfully at ..." would tell who did it.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from adapters import events as ev
from adapters.events import ErrorCategory, Event, YieldReason

MAX_OUTPUT = 30_000  # characters of a tool's output that callers see: the smallest limit of any vendor
MAX_RAW = 64 * 1024  # characters kept of a line nobody knows
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_SHELL = re.compile(r"^(?:/[^\s:]*/)?(?:ba|da|z)?sh:(?: -c:)?(?: line)? ?\d+: ", re.MULTILINE)
_KEEPS_OUTPUT = ("shell", "subagent", "mcp:")

Cause = Literal["exited", "canceled", "deadline_exceeded", "stalled", "budget_exceeded", "max_turns", "out_of_memory"]


class Unsupported(Exception):
    """The runtime cannot do this in its present mode or state."""


class Step(NamedTuple):
    """What a dialogue answers: events for the log, lines (with their newline) for the runtime's stdin."""

    events: list[Event]
    outgoing: list[bytes]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one run of the runtime is to do.

    `native_session` is the runtime's own id to resume (None: a new conversation); `new_session` is the UUID to choose
    where the runtime lets us. `model` is the vendor's model id without the provider. `memory` is what the dialogue
    asked to be remembered of earlier turns (see `Dialogue.memory`).

    `parts` and `metadata` are the caller's message in A2A's JSON, `context_id` and `task_id` where it belongs. `references`
    are tasks it points to, {task_id, state, text}: a bit of what each answered, or nulls for one the caller does not
    have. Runtimes that are not `structured` get all they need of these in `prompt`.
    """

    prompt: str
    workspace: str = "/workspace"
    model: str | None = None
    native_session: str | None = None
    new_session: str | None = None
    system_prompt: str | None = None
    mcp_servers: tuple[Mapping[str, Any], ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    message_id: str = ""
    context_id: str = ""
    task_id: str = ""
    references: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How the process ended, and why: `exited` by itself, or because we stopped it for `cause`."""

    code: int | None = None
    signal: int | None = None
    stderr: str = ""
    cause: Cause = "exited"
    why: str = ""  # what the owner should know of the cause


@dataclass(slots=True)
class Spent:
    """What a turn has used so far, as far as the runtime has told: most tell it at the end only."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recorded stdin line of a two-way CLI meant, so that a recording can be replayed."""

    kind: Literal["start", "steer", "interrupt"]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn failed: the category callers are told, and the vendor's own text for the owner."""

    category: ErrorCategory
    text: str


class Dialogue(ABC):
    """The base every runtime's dialogue extends."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self.turn: Turn | None = None
        self.running = False
        self.interrupted = False
        self.lines = 0
        self.unknown = 0
        self.memory: dict[str, Any] = {}  # kept by the engine between turns of a session (e.g. token totals)
        self.spent = Spent()
        self.asked = ""  # the permission the last line asked for; granted or not, nothing was heard since
        self._native: str | None = None
        self._calls: dict[str, tuple[str, str]] = {}  # vendor call id -> (minted id, tool)

    # -- the interface the runner uses

    def start(self, turn: Turn) -> Step:
        self.turn, self.running, self.interrupted = turn, True, False
        self.memory = dict(turn.memory)
        self._native = turn.native_session
        self.spent, self.asked = Spent(), ""
        self._calls.clear()
        return Step([], self.on_start(turn))

    def feed(self, line: bytes) -> Step:
        """One line of stdout, without its newline. Never raises for anything the runtime may print."""
        self.lines += 1
        self.asked = ""
        if not line.strip():
            return Step([], [])
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return self.on_text(line)
        if not isinstance(message, dict):
            return Step([self.keep(line, "not an object")], [])
        try:
            return self.on_message(message, line)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError, RecursionError) as exc:
            return Step([self.keep(line, f"unexpected shape: {type(exc).__name__}")], [])

    def steer(self, text: str, id: str = "") -> list[bytes]:
        """Lines that give the running turn one more message. `taken(id)` tells when the runtime has taken it.

        Raises Unsupported when it takes none now. A message that is never told to be taken is the next turn.
        """
        raise Unsupported("this runtime takes no message while it works")

    def interrupt(self) -> list[bytes]:
        raise Unsupported("this runtime can only be stopped by ending its process")

    def finish(self, exit: Exit) -> list[Event]:
        """The process has ended. Ends a turn that is still running with its one `done`."""
        if not self.running:
            return []
        if exit.cause == "canceled":
            return self.end("canceled")
        if exit.cause == "stalled":
            said = f"{exit.why or 'no output for too long'}\n{exit.stderr}"
            return self.end("deadline_exceeded", Failure("deadline_exceeded", said))
        if exit.cause == "deadline_exceeded":
            return self.end("deadline_exceeded", Failure("deadline_exceeded", "the turn's deadline passed"))
        if exit.cause == "out_of_memory":
            return self.end("failed", Failure("out_of_memory", f"{exit.why}\n{exit.stderr}".strip()))
        if exit.cause in ("budget_exceeded", "max_turns"):
            return self.end(exit.cause, Failure("budget_exceeded", exit.why or exit.cause))
        return self.on_exit(exit)

    # -- what a vendor's dialogue overrides

    @abstractmethod
    def on_start(self, turn: Turn) -> list[bytes]: ...

    @abstractmethod
    def on_message(self, message: dict[str, Any], line: bytes) -> Step: ...

    def on_text(self, line: bytes) -> Step:
        return Step([self.keep(line, "not JSON")], [])

    def on_exit(self, exit: Exit) -> list[Event]:
        """The process is gone without a terminal line. Vendors whose exit means something override `failure_of_exit`."""
        if self.interrupted:
            return self.end("canceled")
        return self.end("failed", self.failure_of_exit(exit))

    def failure_of_exit(self, exit: Exit) -> Failure:
        how = f"signal {exit.signal}" if exit.signal else f"exit code {exit.code}"
        text = f"the process ended without a result ({how})\n{exit.stderr}".strip()
        return Failure("runtime_crash" if self.lines or exit.signal else "startup_crash", text)

    @classmethod
    def recorded(cls, message: dict[str, Any]) -> Recorded | None:
        """What a recorded stdin line meant; None for handshakes and answers, which the dialogue sends by itself."""
        return None

    # -- helpers for vendors' dialogues

    def keep(self, line: bytes, reason: str) -> Event:
        """Keep a line nobody knows at level internal, counted."""
        self.unknown += 1
        return ev.raw(line[: MAX_RAW * 4].decode("utf-8", "replace")[:MAX_RAW], reason)

    def taken(self, id: str) -> list[Event]:
        """The runtime has taken the message that was given under `id` into its turn."""
        return [ev.steered(id)] if id else []

    def session(self, id: str | None) -> list[Event]:
        """The runtime's own session id, told to the engine once for every change."""
        if not id or id == self._native:
            return []
        self._native = id
        return [ev.native_session(id)]

    def tool_start(self, vendor_id: str, tool: ev.Tool, input: dict[str, Any], *, vendor_tool: str = "") -> list[Event]:
        """Open a call once; a repeated start of the same call is nothing."""
        if vendor_id in self._calls:
            return []
        call_id = self._new_id()
        self._calls[vendor_id] = (call_id, tool)
        clean = self.relative(input)
        out = [ev.tool_start(call_id, tool, clean, title_of(tool, clean))]
        if vendor_tool:
            out.append(ev.tool_detail(call_id, vendor_tool=vendor_tool))
        return out

    @property
    def open_tools(self) -> list[str]:
        return [tool for _, tool in self._calls.values()]

    def is_open(self, vendor_id: str) -> bool:
        return vendor_id in self._calls

    def tool_result(
        self, vendor_id: str, output: str, *, is_error: bool = False, exit_code: int | None = None, truncated: bool = False
    ) -> list[Event]:
        """Close a call once. What is not the tool's own output is kept for the owner only."""
        call = self._calls.pop(vendor_id, None)
        if call is None:
            return []
        call_id, tool = call
        detail: list[Event] = []
        shown = ""
        if tool.startswith(_KEEPS_OUTPUT):
            shown = self.relative(_ANSI.sub("", output)).rstrip("\n")
            shown = printed(shown) if tool == "shell" else shown
        elif is_error:
            shown = "The tool reported an error."
        if len(shown) > MAX_OUTPUT:
            shown, truncated = shown[:MAX_OUTPUT], True
        if output.strip() and shown != output.rstrip("\n"):
            detail.append(ev.tool_detail(call_id, output=output))
        result = ev.tool_result(call_id, shown, is_error=is_error, exit_code=exit_code, truncated=truncated)
        return [result, *detail]

    def end(self, reason: YieldReason, failure: Failure | None = None, *before: Event) -> list[Event]:
        """Close what is open and end the turn. `before` is what the owner should read first (usage)."""
        if not self.running:
            return []
        out: list[Event] = []
        for vendor_id in list(self._calls):
            out += self.tool_result(vendor_id, "", is_error=True)
        out += before
        self.running = False
        if failure is None:
            return [*out, ev.done(reason)]
        return [*out, ev.error_detail(failure.category, failure.text), ev.done(reason, failure.category)]

    def relative(self, value: Any) -> Any:
        """`value` with paths of the workspace made relative, deeply."""
        if isinstance(value, str):
            root = (self.turn.workspace if self.turn else "/workspace").rstrip("/")
            return relative_path(value, root) if root else value
        if isinstance(value, dict):
            return {key: self.relative(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.relative(item) for item in value]
        return value


def printed(output: str) -> str:
    """What a command printed, without what depends on who called the shell: its path, its line, blank space around."""
    return _SHELL.sub("sh: ", output).strip()


def relative_path(text: str, root: str) -> str:
    """Replace `root/` by nothing and a lone `root` by `.`, wherever they stand in `text`."""
    if root not in text:
        return text
    return re.sub(re.escape(root) + r"(?:/(?=[^\s'\"]))", "", re.sub(re.escape(root) + r"(?![\w/.-])/?", ".", text))


_TITLES = {
    "shell": ("command", "{}"),
    "read_file": ("path", "Read {}"),
    "write_file": ("path", "Write {}"),
    "edit_file": ("path", "Edit {}"),
    "list_files": ("path", "List {}"),
    "search_files": ("pattern", "Search {}"),
    "web_fetch": ("url", "Fetch {}"),
    "web_search": ("query", "Search the web for {}"),
    "subagent": ("prompt", "Delegate: {}"),
}


def title_of(tool: ev.Tool, input: Mapping[str, Any]) -> str:
    """A line for people, made here so that no vendor's wording shows."""
    if tool.startswith("mcp:"):
        return f"Use {tool[4:]}"
    if tool == "plan":
        return "Update the plan"
    key, form = _TITLES.get(tool, ("", ""))
    value = str(input.get(key) or "").strip().split("\n", 1)[0]
    return form.format(value)[:200] if value else tool.replace("_", " ").capitalize()


def json_line(message: Mapping[str, Any]) -> bytes:
    """One outgoing line. ASCII-only JSON: no U+2028 can split it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def category_of_status(status: int | None) -> ErrorCategory:
    """An HTTP status of a model provider as a category; None means the provider could not be reached."""
    match status:
        case None:
            return "upstream_api_error"
        case 401:
            return "auth_error"
        case 403:
            return "permission_denied"
        case 404:
            return "model_not_found"
        case 402:
            return "quota_exceeded"
        case 413:
            return "context_overflow"
        case 429:
            return "rate_limit"
        case _ if 400 <= status < 500:
            return "invalid_request"
        case _:
            return "upstream_api_error"
