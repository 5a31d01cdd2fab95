"""One message to an agent over A2A, and everything that comes back, each event once, however often the connection breaks.

A break is an exception of the transport or an end of the stream before the task's: both lead to SubscribeToTask with the
last event's id as `Last-Event-ID`. A message whose task is not known yet is never sent again: it may be running.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2

from gateway.cli import wire
from gateway.cli.connection import Found
from gateway.errors import SwitchboardError, Unavailable

Event = dict[str, Any]

HEADERS = {
    "A2A-Version": "1.0",
    "A2A-Extensions": "https://switchboard.dev/extensions/tool-events/v1",
    "Accept": "text/event-stream, application/json",
}
ENDED = frozenset({"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"})
WAITING = frozenset({"TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED"})
# The gateway sends a comment every few seconds, so a stream that is silent for so long is a dead connection.
SILENCE_SECONDS = 60.0
CANCEL_SECONDS = 10.0
# Pauses before each new try; the count begins anew with every event that comes. Long enough for a gateway's restart.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
MAX_EVENT_BYTES = 64 * 2**20


class Turn:
    """Iterate to send the message and get the stream's result objects; ids and state are kept as they come."""

    def __init__(
        self,
        url: Found,
        agent: str,
        text: str,
        *,
        token: Found | None = None,
        context: str = "",
        task: str = "",
        pauses: Sequence[float] = PAUSES,
    ):
        self.url, self.token = url, token
        self._headers = HEADERS | ({"Authorization": f"Bearer {token.value}"} if token else {})
        self.endpoint = f"{url.value}/agents/{quote(agent, safe='')}"
        self.agent = agent
        self.context_id, self.task_id, self.state = context, "", ""
        self._message = _message(text, context, task)
        self._pauses = pauses
        self._cursor = ""
        self._loose: list[Event] = []  # what came since the last event with an id; it comes again after a break

    def over(self) -> bool:
        return self.state in ENDED or self.state in WAITING

    def __iter__(self) -> Iterator[Event]:
        with wire.reaching(self.url):
            tries = 0
            request = _request("SendStreamingMessage", {"message": self._message})
            while not self.over():
                why: Exception | None = None
                try:
                    for event in self._stream(request):
                        tries = 0
                        yield event
                        if self.over():
                            break
                except (httpx2.TransportError, SwitchboardError) as exc:
                    why = exc
                if not self.over():
                    self._pause(tries, why)
                    tries += 1
                    request = _request("SubscribeToTask", {"id": self.task_id})

    def cancel(self) -> None:
        """Ask for the end of the task; nothing to do where none is known to run."""
        if not self.task_id or self.state in ENDED:
            return
        with wire.reaching(self.url), wire.open_client(self.url, self._headers, CANCEL_SECONDS) as client:
            response = client.post(self.endpoint, json=_request("CancelTask", {"id": self.task_id}))
        self._note({"task": wire.result_of(response)})

    def _pause(self, tries: int, why: Exception | None) -> None:
        """Wait before the next try, or raise where none would help."""
        if isinstance(why, SwitchboardError) and why.code != "unavailable":
            raise why
        if not self.task_id and isinstance(why, (SwitchboardError, httpx2.ConnectError, httpx2.ConnectTimeout)):
            raise why
        if not self.task_id:
            raise self._lost("before the agent had answered") from why
        if tries == len(self._pauses):
            raise self._lost(f"and could not be taken up again in {tries} tries") from why
        time.sleep(self._pauses[tries])

    def _lost(self, how: str) -> Unavailable:
        hint = f"The agent may be at work; an owner sees it with: switchboard sessions list --agent {self.agent}"
        return Unavailable(f"The connection to {self.endpoint} broke {how}.", hint)

    def _stream(self, request: Event) -> Iterator[Event]:
        headers = self._headers | ({"Last-Event-ID": self._cursor} if self._cursor else {})
        with (
            wire.open_client(self.url, headers, SILENCE_SECONDS) as client,
            client.stream("POST", self.endpoint, json=request) as response,
        ):
            if response.headers.get("content-type", "").startswith("text/event-stream") and response.is_success:
                yield from self._events(response)
            else:
                response.read()
                yield from self._single(request["method"], response)

    def _events(self, response: httpx2.Response) -> Iterator[Event]:
        """An event is new unless it repeats, in order, what came without an id just before the break."""
        repeated = deque(self._loose)
        for sent in httpx2.EventSource(response, MAX_EVENT_BYTES):
            event = _result(sent.data, response) if sent.data else None
            known = event is not None and bool(repeated) and event == repeated.popleft()
            if sent.id and sent.id != self._cursor:
                self._cursor, self._loose = sent.id, []
            elif event is not None and self._cursor and not known:
                self._loose.append(event)
            if event is not None and not known:
                repeated.clear()
                self._note(event)
                yield event

    def _single(self, method: str, response: httpx2.Response) -> Iterator[Event]:
        """An answer in one piece: an error, or the result of an agent that does not stream."""
        try:
            event = wire.result_of(response)
        except wire.Refused as exc:
            if method != "SubscribeToTask" or exc.code == "unavailable":
                _add_hint(exc, self.token)
                raise
            event = self._snapshot(exc)
        self._note(event)
        yield event

    def _snapshot(self, refused: SwitchboardError) -> Event:
        """The task as it is: a task that has ended takes no subscribers (spec section 3.1.6)."""
        with wire.open_client(self.url, self._headers, SILENCE_SECONDS) as client:
            task = wire.result_of(client.post(self.endpoint, json=_request("GetTask", {"id": self.task_id})))
        state = task.get("status", {}).get("state") if isinstance(task, dict) else None
        if state not in ENDED | WAITING:
            raise refused
        return {"task": task}

    def _note(self, event: Event) -> None:
        kind, body = next(iter(event.items()), ("", {}))
        if not isinstance(body, dict):
            return
        self.context_id = body.get("contextId") or self.context_id
        self.task_id = (body.get("id") if kind == "task" else body.get("taskId")) or self.task_id
        state = "TASK_STATE_COMPLETED" if kind == "message" else (body.get("status") or {}).get("state")
        stale = kind == "task" and self.state == "" and state in WAITING and "taskId" in self._message
        self.state = self.state if stale else state or self.state


def _add_hint(refused: SwitchboardError, token: Found | None) -> None:
    if refused.code == "not_allowed":
        said = f"The one from {token.source} was not accepted." if token else "Pass --token or SWITCHBOARD_TOKEN."
        refused.hint = f"{said} An owner makes a key with: switchboard callers add NAME"
    if refused.code == "not_found" and not refused.hint:
        refused.hint = "See what there is: switchboard agent list"


def _message(text: str, context: str, task: str) -> Event:
    message: Event = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": text}]}
    return message | ({"contextId": context} if context else {}) | ({"taskId": task} if task else {})


def _request(method: str, params: Event) -> Event:
    return {"jsonrpc": "2.0", "id": str(uuid4()), "method": method, "params": params}


def _result(data: str, response: httpx2.Response) -> Event:
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("result"), dict):
        return dict(body["result"])
    raise wire.refusal(body, response)
