"""Events of the log as A2A's JSON (spec v1.0, section 4), pure. The one place that knows both vocabularies.

    chunk                    -> artifactUpdate, appended to the turn's artifact
    tool_start, tool_result  -> statusUpdate(working): a text part for people, a data part for machines that asked for it
    system                   -> statusUpdate(working) with what the agent says of its work
    artifact                 -> artifactUpdate
    done                     -> the whole artifact once more, then the final statusUpdate (made from the folded task);
                                or, when it is the whole answer (`direct`), a message
Deliberate: nothing here depends on who reads but for the extension of tool events, which a caller activates or not; so at
most two encodings of an event serve all subscribers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]  # has no stubs

from gateway.a2a.extension import TOOL_EVENTS
from gateway.clock import iso
from gateway.files.refs import STORED, extend
from gateway.log.rows import Row

Json = dict[str, Any]

MAX_HISTORY = 1000  # messages of a task that are told, the latest
MAX_DEPTH = 80  # levels of a part; protobuf reads a hundred of the whole answer

STATES = {
    "submitted": "TASK_STATE_SUBMITTED",
    "working": "TASK_STATE_WORKING",
    "input_required": "TASK_STATE_INPUT_REQUIRED",
    "auth_required": "TASK_STATE_AUTH_REQUIRED",
    "completed": "TASK_STATE_COMPLETED",
    "failed": "TASK_STATE_FAILED",
    "canceled": "TASK_STATE_CANCELED",
    "rejected": "TASK_STATE_REJECTED",
}
_TOOL_EVENTS = ("tool_start", "tool_result")
_STATE_OF_REASON = {
    "completed": "completed",
    "needs_input": "input_required",
    "needs_auth": "auth_required",
    "canceled": "canceled",
    "rejected": "rejected",
}


def artifact_id(turn_id: str) -> str:
    return f"response-{turn_id.removeprefix('trn_')}"


def begins_anew(type: str, body: str) -> bool:
    """Whether an attempt begins whose text, if it says any, is all of its turn's: it replaces what a cut one has said."""
    if type != "turn_started":
        return False
    started = json.loads(body)
    return started["attempt"] == 1 or bool(started.get("anew"))


def update_of(row: Row, *, first: bool = False, tools: bool = False) -> Json | None:
    """The stream event of one row; None where there is nothing to tell.

    `first`: the turn's artifact begins here, or begins anew; `tools`: the extension of tool events is activated.
    """
    match row.type:
        case "turn_started":
            return _status(row, "working")
        case "chunk":
            part = {"text": json.loads(row.body)["text"]}
            return _artifact(row, artifact_id(row.turn_id or ""), "response", [part], append=not first)
        case "artifact":
            body = json.loads(row.body)
            made = _artifact(row, _file_id(row, body["name"]), body["name"], _parts(body["parts"]), append=body["append"])
            made["artifactUpdate"]["lastChunk"] = body["last"]
            return made
        case "system":
            return _status(row, "working", _message(row, [{"text": json.loads(row.body)["text"]}]))
        case type if type in _TOOL_EVENTS:
            return _status(row, "working", _tool_message(row, tools))
    return None


def final_updates(task: Json, turn_id: str, final: bool) -> list[Json]:
    """What a turn's `done` tells: its whole artifact, and, if the task ended with it, the task's status."""
    updates: list[Json] = []
    mine = artifact_id(turn_id)
    ids = {"taskId": task["id"], "contextId": task["contextId"]}
    for artifact in task.get("artifacts", []):
        if artifact["artifactId"] == mine:
            updates.append({"artifactUpdate": {**ids, "artifact": artifact, "append": False, "lastChunk": True}})
    if final:
        updates.append({"statusUpdate": {**ids, "status": task["status"]}})
    return updates


def user_message(body: Json, task_id: str, context_id: str) -> Json:
    """A stored `message` as an A2A Message."""
    message = {"messageId": body["message_id"], "role": "ROLE_USER", "parts": body["parts"]}
    message |= {"taskId": task_id, "contextId": context_id}
    if body.get("reference_task_ids"):
        message["referenceTaskIds"] = body["reference_task_ids"]
    return message | ({"metadata": body["metadata"]} if body.get("metadata") else {})


def direct_message(row: Row) -> Json | None:
    """The agent's Message, if the row is an answer by a message alone."""
    body = json.loads(row.body) if row.type == "done" else {}
    if not body.get("direct"):
        return None
    ids = {"messageId": row.id, "contextId": row.session_id}
    return {**ids, "role": "ROLE_AGENT", "parts": _parts(body["message"])}


def task_json(task_id: str, session_id: str, state: str, at: int, history: list[Json]) -> Json:
    status = {"state": STATES[state], "timestamp": iso(at)}
    return {"id": task_id, "contextId": session_id, "status": status, "history": history}


def depends_on_tools(row: Row) -> bool:
    """Whether an event is told otherwise where tool events are activated."""
    return row.type in _TOOL_EVENTS


class Fold:
    """A task as its log tells it. Rows go in in order, once; `task` is the A2A Task so far."""

    def __init__(self, task_id: str, session_id: str) -> None:
        self.task_id, self.session_id = task_id, session_id
        self._history: list[Json] = []
        self._texts: dict[str, list[str]] = {}  # artifact id -> pieces
        self._stale: set[str] = set()  # ids of texts that the next piece replaces
        self._artifacts: dict[str, Json] = {}
        self._status: Json = {"state": STATES["submitted"]}
        self._question = ""
        self.seq = 0  # of the task's last row

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.task_id == self.task_id and row.sub == 0:
                self.seq = row.seq
                self._add(row)

    def _add(self, row: Row) -> None:
        match row.type:
            case "message":
                self._history.append(user_message(json.loads(row.body), self.task_id, self.session_id))
                if self._status["state"] != STATES["working"]:
                    self._set(row, "submitted")
            case "turn_started":
                self._set(row, "working")
                if begins_anew(row.type, row.body):
                    self._stale.add(artifact_id(row.turn_id or ""))
            case "chunk":
                self._text_artifact(artifact_id(row.turn_id or "")).append(json.loads(row.body)["text"])
            case "artifact":
                self._file_artifact(row)
            case "ask":
                self._question = json.loads(row.body)["question"]
            case "done":
                self._done(row, json.loads(row.body))

    def _text_artifact(self, id: str) -> list[str]:
        self._artifacts.setdefault(id, {"artifactId": id, "name": "response", "parts": []})
        if id in self._stale:
            self._stale.remove(id)
            self._texts.pop(id, None)
        return self._texts.setdefault(id, [])

    def _file_artifact(self, row: Row) -> None:
        body = json.loads(row.body)
        id = _file_id(row, body["name"])
        if id not in self._artifacts or not body["append"]:
            self._artifacts[id] = {"artifactId": id, "name": body["name"], "parts": []}
        extend(self._artifacts[id]["parts"], _parts(body["parts"]))

    def _done(self, row: Row, body: Json) -> None:
        if not body.get("final", True):
            return
        message = None
        if body["error"] is not None:
            message = _message(row, [_error_text(body["error"]), {"data": body["error"]}])
        elif body.get("message"):
            message = _message(row, _parts(body["message"]))
        elif body["yield_reason"] in ("needs_input", "needs_auth") and self._question:
            message = _message(row, [{"text": self._question}])
        self._set(row, _STATE_OF_REASON.get(body["yield_reason"], "failed"), message)

    def _set(self, row: Row, state: str, message: Json | None = None) -> None:
        self._status = _status_json(row, state, message)

    @property
    def task(self) -> Json:
        for id, pieces in self._texts.items():
            self._artifacts[id]["parts"] = [{"text": "".join(pieces)}]
        task: Json = {"id": self.task_id, "contextId": self.session_id, "status": self._status}
        if self._artifacts:
            task["artifacts"] = list(self._artifacts.values())
        return task | {"history": self._history[-MAX_HISTORY:]}


def _file_id(row: Row, name: str) -> str:
    """One artifact for a name in a turn, so that pieces find what they are appended to."""
    return f"{artifact_id(row.turn_id or '')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _parts(parts: list[Json]) -> list[Json]:
    return [_part(part) for part in parts]


def _part(part: Json) -> Json:
    """A part as a runtime made it; what is no A2A part becomes data, or text where it cannot even be that.

    Files stay the references they are: their bytes are put in where a task or an update is handed out.
    """
    if STORED in part:
        return part
    for shape in (part, {"data": part}):
        with suppress(Exception):  # ParseError, and what else protobuf raises for odd values
            if ParseDict(shape, pb.Part(), max_recursion_depth=MAX_DEPTH).WhichOneof("content"):
                return shape
    return {"text": json.dumps(part, ensure_ascii=False)}


def _artifact(row: Row, id: str, name: str, parts: list[Json], *, append: bool) -> Json:
    artifact = {"artifactId": id, "name": name, "parts": parts}
    update = {"taskId": row.task_id, "contextId": row.session_id, "artifact": artifact, "append": append}
    return {"artifactUpdate": update}


def _status(row: Row, state: str, message: Json | None = None) -> Json:
    update = {"taskId": row.task_id, "contextId": row.session_id, "status": _status_json(row, state, message)}
    return {"statusUpdate": update}


def _status_json(row: Row, state: str, message: Json | None) -> Json:
    status: Json = {"state": STATES[state], "timestamp": iso(row.created_at)}
    return status | ({"message": message} if message else {})


def _message(row: Row, parts: list[Json]) -> Json:
    ids = {"messageId": row.id, "taskId": row.task_id, "contextId": row.session_id}
    return {**ids, "role": "ROLE_AGENT", "parts": parts}


def _tool_message(row: Row, tools: bool) -> Json:
    body = json.loads(row.body)
    text = {"text": _readable(row.type, body)}
    if not tools:
        return _message(row, [text])
    return {**_message(row, [text, {"data": {"type": row.type, **body}}]), "extensions": [TOOL_EVENTS]}


def _readable(type: str, body: Json) -> str:
    if type == "tool_start":
        return str(body["title"])
    failed = f"Failed with exit code {body['exit_code']}" if body["exit_code"] else "Failed"
    return failed if body["is_error"] else "Done"


def _error_text(error: Json) -> Json:
    return {"text": f"{error['message']} (incident {error['incident']})" if error.get("incident") else error["message"]}
