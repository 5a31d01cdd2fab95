"""`codex app-server` as a dialogue: JSON-RPC lines on stdio, one thread, any number of turns one after another.

initialize, initialized, thread/start (or thread/resume), the MCP servers' start-up where there are any, then
turn/start; `turn/completed` ends the turn. The schema: `codex app-server generate-json-schema --out DIR`.

Deliberate: our request ids are words, so that they cannot be mistaken for the runtime's own numbers. Approvals are
granted at once (what an agent may do is decided by its sandbox); every other request gets an answer too, so that nothing
waits for ever. A steer is taken when its message has become an item of the turn, as the model is given it then; the answer
to turn/steer comes earlier, and the turn may end in between. What other threads (sub-agents) and other turns say is passed
over. After an interrupt the running command stays alive: its call is closed here, its process is for the runner to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters import events as ev
from adapters.dialogue import Failure, Recorded, Step, Turn, Unsupported, json_line
from adapters.events import Event
from adapters.runtimes.codex import failures, tools
from adapters.runtimes.codex.thread import CodexDialogue

METHOD_NOT_FOUND = -32601
_CLIENT = {"name": "switchboard", "title": "Switchboard", "version": "1"}
_GRANTS: dict[str, dict[str, Any]] = {
    "item/commandExecution/requestApproval": {"decision": "accept"},
    "item/fileChange/requestApproval": {"decision": "accept"},
    "execCommandApproval": {"decision": "approved"},
    "applyPatchApproval": {"decision": "approved"},
    "item/tool/requestUserInput": {"answers": {}},
}
_NOTICES = ("warning", "configWarning", "guardianWarning", "deprecationNotice", "model/rerouted")
_QUIET = (
    *("account/", "app/", "autoApprovalReview/", "command/exec/", "externalAgentConfig/", "fs/", "fuzzyFileSearch/", "hook/"),
    *("item/autoApprovalReview/", "item/commandExecution/", "item/fileChange/", "item/mcpToolCall/", "item/plan/delta"),
    *("mcpServer/", "model/", "modelProvider/", "process/", "project/", "remoteControl/", "serverRequest/", "skills/"),
    *("thread/", "turn/diff/", "turn/moderationMetadata", "turn/started", "windows"),
)
_SETTLED = frozenset({"ready", "failed", "cancelled"})


class AppServerDialogue(CodexDialogue):
    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id)
        self._requests = 0
        self._sent: dict[str, tuple[str, str]] = {}  # our open requests: id -> method, text of a steer
        self._given: set[str] = set()  # ids of messages given to the running turn and not yet taken into it
        self._refused = False  # it takes no more
        self._initialized = False
        self._turn_id: str | None = None
        self._starting: set[str] = set()  # MCP servers that are not ready yet

    # -- what goes out

    def on_start(self, turn: Turn) -> list[bytes]:
        self._turn_id, self._refused = None, False
        self._given.clear()
        if not self._initialized:
            self._starting = {str(server["name"]) for server in turn.mcp_servers}
            return [self._request("initialize", {"clientInfo": _CLIENT})]
        return [self._start_turn() if self._thread else self._open()]

    def steer(self, text: str, id: str = "") -> list[bytes]:
        params = {"threadId": self._thread, "expectedTurnId": self._running_turn(), "input": _input(text)}
        if self.interrupted or self._refused:
            raise Unsupported("the turn takes no message any more")
        if id:
            self._given.add(id)
            params["clientUserMessageId"] = id
        return [self._request("turn/steer", params, text)]

    def interrupt(self) -> list[bytes]:
        params = {"threadId": self._thread, "turnId": self._running_turn()}
        self.interrupted = True
        return [self._request("turn/interrupt", params)]

    def _running_turn(self) -> str:
        if not self.running or self._turn_id is None:
            raise Unsupported("no turn is running yet, or it has ended")
        return self._turn_id

    def _request(self, method: str, params: Mapping[str, Any], note: str = "") -> bytes:
        self._requests += 1
        id = f"r{self._requests}"
        self._sent[id] = (method, note)
        return json_line({"id": id, "method": method, "params": params})

    def _open(self) -> bytes:
        assert self.turn is not None
        params: dict[str, Any] = {"cwd": self.turn.workspace, "approvalPolicy": "never", "sandbox": "danger-full-access"}
        if self.turn.model:
            params["model"] = self.turn.model
        if self.turn.system_prompt:
            params["developerInstructions"] = self.turn.system_prompt
        if self.turn.native_session:
            return self._request("thread/resume", params | {"threadId": self.turn.native_session, "excludeTurns": True})
        return self._request("thread/start", params)

    def _start_turn(self) -> bytes:
        assert self.turn is not None
        return self._request("turn/start", {"threadId": self._thread, "input": _input(self.turn.prompt)})

    # -- what comes in

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        if "method" not in message:
            return self._on_answer(message, line)
        if "id" in message:
            return Step([], [self._reply(message)])
        method, params = message["method"], message.get("params") or {}
        if method == "turn/started" and params["threadId"] == self._thread:
            self._turn_id = self._turn_id or params["turn"]["id"]
        if method == "mcpServer/startupStatus/updated":
            return self._on_mcp_status(params)
        if not self.running or self._is_foreign(params):
            return Step([], []) if _is_known(method) else Step([self.keep(line, "unknown notification")], [])
        return Step(self._on_notification(method, params, line), [])

    def _is_foreign(self, params: Mapping[str, Any]) -> bool:
        """Whether it is about another thread, or about a turn that has ended."""
        turn = params.get("turnId") or (params.get("turn") or {}).get("id")
        return params.get("threadId", self._thread) != self._thread or (turn is not None and turn != self._turn_id)

    def _on_answer(self, message: Mapping[str, Any], line: bytes) -> Step:
        method, note = self._sent.pop(str(message.get("id")), ("", ""))
        error, result = message.get("error"), message.get("result") or {}
        match method:
            case "":
                return Step([self.keep(line, "answer to nothing")] if self.running else [], [])
            case "turn/steer":
                self._refused = self._refused or error is not None
                return Step([ev.notice("steer_refused", note)] if error else [], [])
            case "turn/interrupt":
                return Step([ev.notice("interrupt_refused", _text(error))] if error else [], [])
            case _ if error:
                return Step(self.end("failed", _refused(method, error)), [])
            case "initialize":
                self._initialized = True
                return Step([], [json_line({"method": "initialized"}), self._open()])
            case "turn/start":
                self._turn_id = result["turn"]["id"]
                return Step([], [])
        self._thread = result["thread"]["id"]
        return Step(self.session(self._thread), self._begin())

    def _begin(self) -> list[bytes]:
        """The turn, once the thread is there and every MCP server has come up or failed to."""
        ready = self.running and self._thread is not None and self._turn_id is None and not self._starting
        return [self._start_turn()] if ready else []

    def _on_mcp_status(self, params: Mapping[str, Any]) -> Step:
        name, status = params["name"], params["status"]
        failed = status in ("failed", "cancelled")
        notes = [ev.notice("mcp_failed", f"{name}: {params.get('error') or status}")] if failed else []
        if status not in _SETTLED or name not in self._starting:
            return Step(notes, [])
        self._starting.discard(name)
        return Step(notes, self._begin())

    def _reply(self, message: Mapping[str, Any]) -> bytes:
        """Every request of the runtime is answered."""
        method, params = message["method"], message.get("params") or {}
        self.asked = method
        if method in _GRANTS:
            return json_line({"id": message["id"], "result": _GRANTS[method]})
        if method == "item/permissions/requestApproval":
            return json_line({"id": message["id"], "result": {"permissions": params.get("permissions") or {}}})
        if method == "mcpServer/elicitation/request":
            return json_line({"id": message["id"], "result": _elicited(params)})
        error = {"code": METHOD_NOT_FOUND, "message": "Method not found"}
        return json_line({"id": message["id"], "error": error})

    def _on_notification(self, method: str, params: Mapping[str, Any], line: bytes) -> list[Event]:
        match method:
            case "item/agentMessage/delta":
                return self.on_piece(params["itemId"], params["delta"])
            case "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta":
                return self.on_thought(params["itemId"], params["delta"])
            case "item/reasoning/summaryPartAdded":
                return self.on_thought(params["itemId"], "\n\n" if params["summaryIndex"] else "")
            case "item/started" | "item/completed" if params["item"].get("clientId") in self._given:
                self._given.discard(params["item"]["clientId"])
                return self.taken(params["item"]["clientId"])
            case "item/started" | "item/completed":
                return self.on_item(method.removeprefix("item/"), tools.snake(params["item"]), line)
            case "turn/plan/updated":
                return self.on_plan(params["plan"])
            case "thread/tokenUsage/updated":
                self._told.settle()
                self.count(tools.snake(params["tokenUsage"]["total"]))
                return []
            case "error":
                return self._on_error(params)
            case "turn/completed":
                return self._on_completed(params["turn"])
            case _ if method in _NOTICES:
                text = params.get("message") or params.get("summary") or params.get("toModel") or ""
                return [ev.notice("warning", str(text))]
        return [] if method.startswith(_QUIET) else [self.keep(line, "unknown notification")]

    def _on_error(self, params: Mapping[str, Any]) -> list[Event]:
        text = failures.text_of(params["error"])
        if params.get("willRetry"):
            return self.on_retry(text)
        self._error = text
        return [ev.notice("error", text)]

    def _on_completed(self, turn: Mapping[str, Any]) -> list[Event]:
        if turn["status"] == "completed":
            return self.end("completed")
        if self.interrupted or (turn["status"] == "interrupted" and not turn.get("error")):
            return self.end("canceled")
        return self.end("failed", failures.failure_of_error(turn.get("error") or {"message": self._error}))

    @classmethod
    def recorded(cls, message: dict[str, Any]) -> Recorded | None:
        params = message.get("params") or {}
        match message.get("method"):
            case "turn/start":
                return Recorded("start", params["input"][0]["text"])
            case "turn/steer":
                return Recorded("steer", params["input"][0]["text"])
            case "turn/interrupt":
                return Recorded("interrupt")
        return None


def _input(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _is_known(method: str) -> bool:
    handled = ("item/", "turn/", "error")
    return method.startswith((*_QUIET, *handled, *_NOTICES))


def _text(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, Mapping) else str(error)


def _refused(method: str, error: Any) -> Failure:
    return failures.failure_of_text(
        f"{method}: {_text(error)}", "protocol_error" if method == "turn/start" else "startup_crash"
    )


def _elicited(params: Mapping[str, Any]) -> dict[str, Any]:
    """A plain confirmation is given; a form or a page that somebody has to fill in is declined."""
    schema = params.get("requestedSchema")
    plain = params.get("mode") == "form" and isinstance(schema, Mapping) and not schema.get("properties")
    return {"action": "accept", "content": {}} if plain else {"action": "decline", "content": None}
