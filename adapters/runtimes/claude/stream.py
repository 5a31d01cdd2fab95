"""Claude Code spoken to both ways (`--input-format stream-json`): one process, many turns, steering, interrupts.

A message sent while a tool runs joins the running turn at its next model call; one sent while text streams waits and
starts a turn of the CLI's own after the `result` of the first. The caller sees one turn either way: `done` comes when
everything that was sent has been answered. `--replay-user-messages` tells which case it is: the CLI echoes a message
when it takes it up, so a `result` while a steering message has no echo yet is not the last one. Several waiting
messages are taken up together and echoed with the uuid of the last, so an echo is matched by uuid and by text.

An interrupt first takes back what waits: otherwise the CLI would go on with it after the interrupted turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from adapters import events as ev
from adapters.dialogue import Recorded, Step, Turn, Unsupported, json_line
from adapters.events import Event
from adapters.runtimes.claude import failures
from adapters.runtimes.claude.dialogue import ClaudeDialogue, literal
from adapters.runtimes.claude.tools import text_of


class StreamDialogue(ClaudeDialogue):
    def __init__(self, new_id: Callable[[], str]) -> None:
        super().__init__(new_id)
        self._waiting: dict[str, tuple[str, str]] = {}  # uuid -> (text, id) of steering messages not yet taken up
        self._echoed = False  # the turn's prompt was taken up
        self._requests: dict[str, str] = {}  # our open requests to take a message back: request id -> uuid
        self._sent = 0

    def on_start(self, turn: Turn) -> list[bytes]:
        self._waiting.clear()
        self._echoed = False
        return [*super().on_start(turn), _user(literal(turn.prompt))]

    def steer(self, text: str, id: str = "") -> list[bytes]:
        if not self.running or self.interrupted:
            raise Unsupported("no turn is running that could take the message")
        uuid = str(uuid5(NAMESPACE_OID, self._new_id()))  # kept in the journal, so it must be unique for ever
        self._waiting[uuid] = (literal(text), id)
        return [_user(literal(text), uuid=uuid)]

    def interrupt(self) -> list[bytes]:
        if not self.running:
            raise Unsupported("no turn is running")
        self.interrupted = True
        return [*map(self._take_back, self._waiting), self._request("interrupt")[1]]

    def _take_back(self, uuid: str) -> bytes:
        id, line = self._request("cancel_async_message", message_uuid=uuid)
        self._requests[id] = uuid
        return line

    def _request(self, subtype: str, **more: str) -> tuple[str, bytes]:
        self._sent += 1
        id = f"request-{self._sent}"
        return id, json_line({"type": "control_request", "request_id": id, "request": {"subtype": subtype, **more}})

    def on_message(self, message: dict[str, Any], line: bytes) -> Step:
        match message.get("type"):
            case "control_request":
                request = message["request"]
                self.asked = str(request.get("tool_name") or request.get("subtype"))
                return Step([], [_answer(message)])
            case "control_response":
                return Step(self._on_response(message["response"]), [])
            case "control_cancel_request":
                return Step([], [])
        return super().on_message(message, line)

    def read(self, message: dict[str, Any]) -> list[Event] | None:
        if message.get("type") == "user" and message.get("isReplay"):
            return self._on_echo(message)
        return super().read(message)

    def _on_response(self, response: dict[str, Any]) -> list[Event]:
        uuid = self._requests.pop(response["request_id"], None)
        if uuid is not None and (response.get("response") or {}).get("cancelled") is True:
            self._waiting.pop(uuid, None)
        if response.get("subtype") == "error" and self.running:
            return [ev.notice("control", str(response.get("error")))]
        return []

    def _on_echo(self, message: dict[str, Any]) -> list[Event]:
        content = message["message"]["content"]
        texts = [text_of([block]) for block in content] if isinstance(content, list) else [text_of(content)]
        first, self._echoed = not self._echoed, True
        others, last = texts[1:] if first else texts, str(message.get("uuid"))
        if last in self._waiting:
            others = others[:-1]
        taken = [event for text in others for event in self._taken_up(self._uuid_of(text))]
        return [*taken, *self._taken_up(last)]

    def _uuid_of(self, text: str) -> str:
        return next((uuid for uuid, (waiting, _) in self._waiting.items() if waiting == text), "")

    def _taken_up(self, uuid: str) -> list[Event]:
        _, id = self._waiting.pop(uuid, ("", ""))
        return self.taken(id)

    def on_result(self, result: dict[str, Any]) -> list[Event]:
        stopped = self.interrupted and failures.is_aborted(result)
        if not self._waiting or stopped:
            return super().on_result(result)
        _, failure = failures.outcome(result, self._synthetic, cut=self._answer.cut)
        self._begin()
        return [ev.error_detail(failure.category, failure.text)] if failure else []

    @classmethod
    def recorded(cls, message: dict[str, Any]) -> Recorded | None:
        match message.get("type"):
            case "user":
                return Recorded("start", text_of(message["message"]["content"]))
            case "control_request" if message["request"].get("subtype") == "interrupt":
                return Recorded("interrupt")
        return None


def _user(text: str, **more: str) -> bytes:
    return json_line({"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}, **more})


def _answer(message: dict[str, Any]) -> bytes:
    """Whatever the CLI asks gets an answer at once: tools are allowed, as the sandbox is the limit; the rest is refused."""
    request, id = message["request"], message["request_id"]
    if request.get("subtype") == "can_use_tool":
        answer = {"behavior": "allow", "updatedInput": request.get("input") or {}}
        return json_line({"type": "control_response", "response": {"subtype": "success", "request_id": id, "response": answer}})
    error = f"not supported: {request.get('subtype')}"
    return json_line({"type": "control_response", "response": {"subtype": "error", "request_id": id, "error": error}})
