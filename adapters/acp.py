"""The Agent Client Protocol (JSON-RPC 2.0 lines on stdio) as a dialogue; a protocol, so runtimes may build on it.

initialize, then session/new (or session/load), then the mode and model if the agent offers a choice, then
session/prompt; its answer ends the turn. https://agentclientprotocol.com/protocol/overview

An agent's habits are data (the class attributes of `AcpDialogue`) or one of its hooks: `tool_of`, `result_of`,
`usage_of`, `failure_of_error`, `pick_model`.

Deliberate: no client capabilities are declared (files and terminals are the sandbox's business), so fs/* and
terminal/* get "method not found". Permissions are granted at once: what an agent may do is decided by its sandbox.
`max_tokens` is a failure (`output_limit`): by its definition the answer was cut. What a session/load replays is history
and is dropped until the load is answered; if it fails, a new session is opened and a notice `resume_failed` tells so.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from adapters import acp_tools
from adapters import events as ev
from adapters.acp_tools import Call, Choice, error_text
from adapters.calls import Named, Result
from adapters.dialogue import Dialogue, Failure, Recorded, Step, Turn, Unsupported, json_line
from adapters.events import ErrorCategory, Event, YieldReason

PROTOCOL_VERSION = 1
METHOD_NOT_FOUND = -32601
_SETTINGS = ("session/set_mode", "session/set_model", "session/set_config_option")
_QUIET = frozenset(
    {
        "user_message_chunk",
        "available_commands_update",
        "current_mode_update",
        "config_option_update",
        "session_info_update",
    }
)
_STOPS: dict[str, tuple[YieldReason, ErrorCategory | None]] = {
    "end_turn": ("completed", None),
    "cancelled": ("canceled", None),
    "max_tokens": ("failed", "output_limit"),
    "max_turn_requests": ("max_turns", "budget_exceeded"),
    "refusal": ("failed", "content_refused"),
}


class AcpDialogue(Dialogue):
    """One ACP agent process: one session, any number of turns one after another."""

    prompt_joins: ClassVar[bool] = False  # a second session/prompt joins the running turn; else it may cancel it
    mode_id: ClassVar[str | None] = None  # the session mode to choose where offered
    plan_update_is_tool: ClassVar[bool] = True  # False: the agent has a plan tool and `plan` updates repeat it
    sends_system_prompt: ClassVar[bool] = True  # False: the profile gives the system prompt in another way

    def __init__(self, new_id: Any) -> None:
        super().__init__(new_id)
        self._requests = 0
        self._sent: dict[int, str] = {}  # our open requests: id -> method
        self._initialized = False
        self._can_load = False
        self._acp_session: str | None = None
        self._loading = False
        self._fresh = True  # the session is new: the system prompt is still to be said
        self._setup: deque[Choice] = deque()
        self._prompts: dict[int, str] = {}  # open session/prompt requests -> id of the message where it is a steer
        self._tools: dict[str, dict[str, Any]] = {}
        self._finished: set[str] = set()
        self._cost: float | None = None  # the session's, as last told
        self._cost_before: float | None = None  # the session's before this turn; None: not known
        self._usage: dict[str, Any] = {}

    # -- hooks for agents that are known better

    def tool_of(self, call: Call) -> Named:
        return acp_tools.named(call, self.servers())

    def result_of(self, update: Call, call: Call) -> Result:
        """`update` is the one that finished the call, `call` everything said of it."""
        return acp_tools.result(update, call)

    def ready(self, call: Call) -> bool:
        """Whether the input of a call is complete, so that its start can be told."""
        return call.get("status") not in (None, "pending")

    def usage_of(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Token counts of a turn (keywords of `events.usage`) from the answer to session/prompt."""
        return acp_tools.usage(result)

    def failure_of_error(self, error: Mapping[str, Any]) -> Failure:
        return acp_tools.failure(error)

    def pick_model(self, offered: list[str], wanted: str) -> str | None:
        """The offered id of the wanted model: itself, or with a provider before it."""
        return next((id for id in offered if id == wanted), next((id for id in offered if id.endswith("/" + wanted)), None))

    def servers(self) -> list[str]:
        return [str(server["name"]) for server in (self.turn.mcp_servers if self.turn else ())]

    def prompt_of(self, text: str) -> list[dict[str, Any]]:
        """The content blocks of a prompt; a new session is told the system prompt first."""
        turn = self.turn
        blocks = [{"type": "text", "text": text}]
        if self._fresh and self.sends_system_prompt and turn and turn.system_prompt:
            blocks.insert(0, {"type": "text", "text": turn.system_prompt})
        self._fresh = False
        return blocks

    # -- what goes out

    def on_start(self, turn: Turn) -> list[bytes]:
        self._prompts.clear()
        self._tools.clear()
        self._finished.clear()
        self._usage = {}
        if self._acp_session is not None:
            return self._prompt(turn.prompt)
        if self._initialized:
            return self._open()
        capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        client = {"name": "switchboard", "version": "1"}
        params = {"protocolVersion": PROTOCOL_VERSION, "clientCapabilities": capabilities, "clientInfo": client}
        return [self._request("initialize", params)]

    def steer(self, text: str, id: str = "") -> list[bytes]:
        """The answer to its prompt tells that it was taken, unless it was cancelled: there is no earlier word for it."""
        if not self.prompt_joins or not self._prompts or self.interrupted:
            raise Unsupported("this agent takes no message at this moment")
        return self._prompt(text, id)

    def interrupt(self) -> list[bytes]:
        """Before the prompt is sent there is nothing to cancel: the turn then ends as soon as it would be sent."""
        self.interrupted = True
        if not self._prompts:
            return []
        return [json_line({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self._acp_session}})]

    def _request(self, method: str, params: Mapping[str, Any]) -> bytes:
        self._requests += 1
        self._sent[self._requests] = method
        return json_line({"jsonrpc": "2.0", "id": self._requests, "method": method, "params": params})

    def _open(self) -> list[bytes]:
        turn = self.turn
        assert turn is not None
        place = {"cwd": turn.workspace, "mcpServers": acp_tools.mcp_servers(turn.mcp_servers)}
        if turn.native_session and self._can_load:
            self._loading, self._fresh = True, False
            return [self._request("session/load", {"sessionId": turn.native_session, **place})]
        self._fresh = True
        return [self._request("session/new", place)]

    def _prompt(self, text: str, id: str = "") -> list[bytes]:
        line = self._request("session/prompt", {"sessionId": self._acp_session, "prompt": self.prompt_of(text)})
        self._prompts[self._requests] = id
        return [line]

    # -- what comes in

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if "method" not in message:
            return self._on_answer(message, line)
        if "id" in message:
            return self._on_request(message)
        if message["method"] == "session/update":
            params = message["params"]
            other = self._acp_session not in (None, params.get("sessionId"))
            return Step([] if other else self._on_update(params["update"], line), [])
        return Step([self.keep(line, "unknown notification")], [])

    def _on_request(self, message: Mapping[str, Any]) -> Step:
        if message["method"] == "session/request_permission":
            return self._on_permission(message)
        error = {"code": METHOD_NOT_FOUND, "message": "Method not found"}
        return Step([], [json_line({"jsonrpc": "2.0", "id": message["id"], "error": error})])

    def _on_permission(self, message: Mapping[str, Any]) -> Step:
        params = message["params"]
        self.asked = str((params.get("toolCall") or {}).get("title") or "a tool")
        kinds = {option["kind"]: option["optionId"] for option in reversed(params["options"])}
        chosen = kinds.get("allow_once") or kinds.get("allow_always")
        allowed = chosen is not None and self.running and not self.interrupted
        outcome = {"outcome": "selected", "optionId": chosen} if allowed else {"outcome": "cancelled"}
        answer = json_line({"jsonrpc": "2.0", "id": message["id"], "result": {"outcome": outcome}})
        events = self._start_call(self._merge(params["toolCall"])) if allowed else []
        return Step(events, [answer])

    def _on_answer(self, message: Mapping[str, Any], line: bytes) -> Step:
        id = message.get("id")
        method = self._sent.pop(id, None) if isinstance(id, int) else None
        if method is None:
            return Step([self.keep(line, "answer to nothing")], [])
        error = message.get("error")
        if method == "session/prompt":
            assert isinstance(id, int)
            return Step(self._on_prompt_answer(id, message.get("result") or {}, error), [])
        if method in _SETTINGS:
            notes = [ev.notice("setting_refused", f"{method}: {error_text(error)}")] if error else []
            return self._advance(notes)
        if error is not None:
            return self._on_refused(method, error)
        return self._on_opened(method, message.get("result") or {})

    def _on_refused(self, method: str, error: Mapping[str, Any]) -> Step:
        if method != "session/load":
            return Step(self.end("failed", self.failure_of_error(error)), [])
        self._loading, self._can_load = False, False
        return Step([ev.notice("resume_failed", error_text(error))], self._open())

    def _on_opened(self, method: str, result: Mapping[str, Any]) -> Step:
        turn = self.turn
        assert turn is not None
        if method == "initialize":
            self._initialized = True
            self._can_load = bool((result.get("agentCapabilities") or {}).get("loadSession"))
            lost = turn.native_session and not self._can_load
            return Step([ev.notice("resume_failed", "the agent cannot load sessions")] if lost else [], self._open())
        self._loading = False
        resumed = method == "session/load"
        self._acp_session = turn.native_session if resumed else result.get("sessionId")
        if not self._acp_session:
            return Step(self.end("failed", Failure("protocol_error", "the answer to session/new names no session")), [])
        self._cost_before = self.memory.get("cost_usd") if resumed else 0.0
        self._setup = deque(self._choices(result))
        return self._advance(self.session(self._acp_session))

    def _choices(self, offered: Mapping[str, Any]) -> list[Choice]:
        """The choices to make of those the agent offers, leaving out what is so already."""
        wanted = self.turn.model if self.turn else None
        return acp_tools.choices(offered, self.mode_id, lambda models: self.pick_model(models, wanted) if wanted else None)

    def _advance(self, events: list[Event]) -> Step:
        """The next setting; after the last one the prompt, unless the turn was interrupted meanwhile."""
        if not self.running:
            return Step(events, [])
        if self.interrupted:
            return Step([*events, *self.end("canceled")], [])
        if self._setup:
            method, params = self._setup.popleft()
            return Step(events, [self._request(method, {"sessionId": self._acp_session, **params})])
        assert self.turn is not None
        return Step(events, self._prompt(self.turn.prompt))

    # -- what a turn tells

    def _on_update(self, update: dict[str, Any], line: bytes) -> list[Event]:
        kind = update["sessionUpdate"]
        if kind == "usage_update":
            self._cost = (update.get("cost") or {}).get("amount", self._cost)
            self.spent.cost_usd = self._cost_of_turn() or 0.0
            return []
        if kind in _QUIET or self._loading:
            return []
        if not self.running:
            return [] if kind == "tool_call_update" else [self.keep(line, "outside a turn")]
        match kind:
            case "agent_message_chunk" | "agent_thought_chunk":
                return self._on_content(kind, update["content"], line)
            case "tool_call" | "tool_call_update":
                return self._on_call(update)
            case "plan":
                return self._on_plan(update) if self.plan_update_is_tool else []
            case _:
                return [self.keep(line, "unknown update")]

    def _on_content(self, kind: str, content: Mapping[str, Any], line: bytes) -> list[Event]:
        if content.get("type") != "text":
            return [self.keep(line, "content that is no text")]
        if not content["text"]:
            return []
        return [ev.chunk(content["text"]) if kind == "agent_message_chunk" else ev.thinking(content["text"])]

    def _on_call(self, update: Mapping[str, Any]) -> list[Event]:
        """A call is told when its input is complete, and told again when it has ended; what is in between is dropped."""
        call = self._merge(update)
        id, status = str(update["toolCallId"]), update.get("status")
        ended = status in ("completed", "failed")
        out = self._start_call(call) if ended or self.ready(call) else []
        if not ended or id in self._finished:
            return out
        self._finished.add(id)
        return [*out, *self._end_call(id, self.result_of(update, call))]

    def _merge(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """All that was said of a call; `name` keeps its first title, with some agents the tool's name."""
        call = self._tools.setdefault(str(update["toolCallId"]), {})
        call.setdefault("name", update.get("title"))
        call.update({key: value for key, value in update.items() if value is not None})
        return call

    def _start_call(self, call: Call) -> list[Event]:
        id = str(call["toolCallId"])
        if id in self._finished or self.is_open(id):
            return []
        tool, input, vendor = self.tool_of(call)
        return self.tool_start(id, tool, input, vendor_tool=vendor)

    def _end_call(self, id: str, result: Result) -> list[Event]:
        said = self.tool_result(
            id, result.output, is_error=result.is_error, exit_code=result.exit_code, truncated=result.truncated
        )
        if result.detail and said:
            said.append(ev.tool_detail(said[0].body["call_id"], output=result.detail))
        return said

    def _on_plan(self, update: Mapping[str, Any]) -> list[Event]:
        items = [{"text": entry["content"], "status": entry.get("status", "pending")} for entry in update["entries"]]
        id = f"plan {len(self._finished)}"
        self._finished.add(id)
        return [*self.tool_start(id, "plan", {"items": items}), *self.tool_result(id, "")]

    # -- the end of a turn

    def _on_prompt_answer(self, id: int, result: Mapping[str, Any], error: Mapping[str, Any] | None) -> list[Event]:
        """A turn ends as the last of its prompts does; an answer to an earlier turn's prompt says nothing any more."""
        if id not in self._prompts:
            return []
        steer = self._prompts.pop(id)
        taken = self.taken(steer) if error is None and result.get("stopReason") != "cancelled" else []
        self._usage |= self.usage_of(result)
        if self._prompts:
            return [ev.notice("error", error_text(error))] if error is not None else taken
        if error is not None:
            return self._end_by_error(error)
        stop = str(result.get("stopReason"))
        reason, category = _STOPS.get(stop, ("completed", None))
        failure = Failure(category, f"the agent stopped with {stop!r}") if category else None
        return [*taken, *self.end(reason, failure, *self._used())]

    def _end_by_error(self, error: Mapping[str, Any]) -> list[Event]:
        if self.interrupted:
            return self.end("canceled", None, *self._used(), ev.notice("error", error_text(error)))
        return self.end("failed", self.failure_of_error(error), *self._used())

    def _used(self) -> list[Event]:
        """Token counts are the turn's; the cost is told as the session's total: only what came since is the turn's."""
        cost = self._cost_of_turn()
        if self._cost is not None:
            self._cost_before = self.memory["cost_usd"] = self._cost
        if not any(self._usage.values()) and not cost:
            return []
        return [ev.usage(**self._usage, cost_usd=cost)]

    def _cost_of_turn(self) -> float | None:
        known = self._cost is not None and self._cost_before is not None
        return max(0.0, round((self._cost or 0.0) - (self._cost_before or 0.0), 10)) if known else None

    @classmethod
    def recorded(cls, message: dict[str, Any]) -> Recorded | None:
        match message.get("method"):
            case "session/prompt":
                return Recorded("start", "".join(block.get("text", "") for block in message["params"]["prompt"]))
            case "session/cancel":
                return Recorded("interrupt")
            case _:
                return None


def recorded_load(meta: Mapping[str, Any]) -> str | None:
    """The session a recording loads, for `Mode.recorded_turn`."""
    for item in meta.get("stdin_lines") or ():
        message = json.loads(item["line"])
        if message.get("method") == "session/load":
            return str(message["params"]["sessionId"])
    return None
