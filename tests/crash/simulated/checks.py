"""What must hold of a world that has come to rest."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gateway.turns.queue import TERMINAL, WAITING
from gateway.turns.resume import GO_ON
from tests.crash.simulated.callers import Callers
from tests.crash.simulated.runtime import MESSAGE, PIECE, Process

if TYPE_CHECKING:
    from tests.crash.simulated.world import World

MOMENT = 2.0  # seconds
_STATES = {"completed": "completed", "needs_input": "input_required", "canceled": "canceled", "rejected": "rejected"}
_STATUS = {"input_required": "awaiting_input", "failed": "failed"}
Rows = Sequence[Any]


def violations(world: World, callers: Callers) -> list[str]:
    def rows(table: str, order: str) -> Rows:
        return world.server.rows(f"SELECT * FROM {table} ORDER BY {order}")

    events, turns, tasks, sessions = rows("event", "pos"), rows("turn", "queued_at"), rows("task", "id"), rows("session", "id")
    logs: dict[str, list[Any]] = defaultdict(list)
    for event in events:
        logs[event.session_id].append(event)
    processes = world.machine.processes
    attempts = getattr(world.settings, "turn_attempts", 1)
    return [
        *callers.problems,
        *(said for log in logs.values() for said in _numbers(log)),
        *(said for turn in turns for said in _turn(turn, logs[turn.session_id], attempts)),
        *(said for task in tasks for said in _task(task, logs[task.session_id])),
        *(said for session in sessions for said in _session(session, logs[session.id], tasks, turns)),
        *_messages(callers, events),
        *(said for task_id in callers.canceled for said in _canceled(task_id, tasks)),
        *(said for log in logs.values() for said in _pieces(log, processes)),
        *_prompts(processes, turns, callers, attempts),
        *(said for process in processes for said in _given_again(process, logs[process.turn.session_id])),
        *_two_at_once(world),
    ]


def _numbers(log: Rows) -> Iterator[str]:
    seq = sub = 0
    for event in log:
        seq, sub = (seq, sub + 1) if event.level == "internal" else (seq + 1, 0)
        if (event.seq, event.sub) != (seq, sub):
            yield f"{event.session_id} has {event.seq}.{event.sub} where {seq}.{sub} is due"
            return


def _turn(turn: Any, log: Rows, attempts: int) -> Iterator[str]:
    mine = [event for event in log if event.turn_id == turn.id and event.type != "message"]
    types = [event.type for event in mine]
    if turn.state != "ended":
        yield f"{turn.id} is {turn.state}"
        return
    begun = [json.loads(event.body)["attempt"] for event in mine if event.type == "turn_started"]
    if begun != list(range(1, turn.attempt + 1)):
        yield f"{turn.id}, of attempt {turn.attempt}, began {begun}"
    if turn.attempt > attempts:
        yield f"{turn.id} had {turn.attempt} attempts"
    if turn.yield_reason == "steered":
        if mine:
            yield f"{turn.id} was taken into another and has events: {types}"
        return
    if turn.attempt and types.count("done") != 1:
        yield f"{turn.id} has {types.count('done')} done"
    if types and types[-1] != "done":
        yield f"{turn.id} goes on after its end: {types}"
    ends = [json.loads(event.body)["yield_reason"] for event in mine if event.type == "done"]
    if ends and ends[-1] != turn.yield_reason:
        yield f"{turn.id} says {turn.yield_reason}, its done {ends}"
    calls = [[json.loads(one.body)["call_id"] for one in mine if one.type == type] for type in ("tool_start", "tool_result")]
    if calls[0] != calls[1]:
        yield f"{turn.id} has tools {calls}"


def _task(task: Any, log: Rows) -> Iterator[str]:
    if task.state not in TERMINAL | WAITING:
        yield f"{task.id} is {task.state}"
        return
    dones = [json.loads(event.body) for event in log if event.task_id == task.id and event.type == "done"]
    if not dones or not dones[-1]["final"] or _STATES.get(dones[-1]["yield_reason"], "failed") != task.state:
        yield f"{task.id} is {task.state}, its last done {dones[-1:]}"
    early = [done for done in dones[:-1] if done["final"] and done["yield_reason"] != "needs_input"]
    if early:
        yield f"{task.id} went on after {early}"


def _session(session: Any, log: Rows, tasks: Rows, turns: Rows) -> Iterator[str]:
    last = next((event for event in reversed(log) if event.type == "done"), None)
    if last is None:
        yield f"{session.id} has no done"
        return
    state = next(task.state for task in tasks if task.id == last.task_id)
    if session.status != _STATUS.get(state, "idle"):
        yield f"{session.id} is {session.status}, its last task {state}"
    mine = [turn for turn in turns if turn.session_id == session.id]
    begun, broken = sum(1 for turn in mine if turn.attempt), sum(1 for turn in mine if not turn.attempt and turn.owner)
    spent = (json.loads(session.spent) or {}).get("turns", 0) if session.spent else 0
    if not begun <= spent <= begun + broken:
        yield f"{session.id} counts {spent} turns, and {begun} began"


def _messages(callers: Callers, events: Rows) -> Iterator[str]:
    """Every message that was accepted is in the log once, where its sender was told; one that was not, is not."""
    stored: dict[str, list[Any]] = defaultdict(list)
    for event in events:
        if event.type == "message":
            stored[json.loads(event.body)["parts"][0]["text"]].append(event)
    for sent in callers.sent:
        found = [(event.session_id, event.seq, event.turn_id) for event in stored[sent.text]]
        told = [(sent.accepted.session_id, sent.accepted.seq, sent.accepted.turn_id)] if sent.accepted else []
        if found != told:
            yield f"{sent.text}: told {told}, stored {found}"


def _canceled(task_id: str, tasks: Rows) -> Iterator[str]:
    state = next(task.state for task in tasks if task.id == task_id)
    if state not in TERMINAL:
        yield f"{task_id} was canceled and is {state}"


def _pieces(log: Rows, processes: Sequence[Process]) -> Iterator[str]:
    """What the processes of a session said: in order, from the first piece on, and nothing of a superseded one."""
    newest, next_piece = 0, dict.fromkeys(range(len(processes)), 0)
    for event in log:
        if event.type != "chunk":
            continue
        for number, piece in ((int(a), int(b)) for a, b in PIECE.findall(json.loads(event.body)["text"])):
            process = processes[number]
            if (event.session_id, event.turn_id) != (process.turn.session_id, process.turn.id):
                yield f"<{number}.{piece}> stands in {event.turn_id}"
            if process.turn.fence < newest:
                yield f"<{number}.{piece}> has fence {process.turn.fence}, after {newest}"
            newest = max(newest, process.turn.fence)
            if piece != next_piece[number]:
                yield f"<{number}.{piece}> where {next_piece[number]} is due"
            next_piece[number] = piece + 1


def _prompts(processes: Sequence[Process], turns: Rows, callers: Callers, attempts: int) -> Iterator[str]:
    given: dict[str, list[str]] = defaultdict(list)
    for process in processes:
        given[process.turn.id] += process.prompts
    runs = Counter((process.turn.id, process.turn.attempt, process.turn.fence) for process in processes)
    yield from (f"{turn_id} ran twice in attempt {attempt}" for (turn_id, attempt, _), count in runs.items() if count > 1)
    for turn in turns:
        if len(given[turn.id]) > attempts:
            yield f"{turn.id} was given {len(given[turn.id])} prompts: {given[turn.id]}"
    told = {
        number for process in processes for text in (*process.prompts, *process.steered) for number in MESSAGE.findall(text)
    }
    for sent in callers.sent:
        turn = next((turn for turn in turns if sent.accepted and turn.id == sent.accepted.turn_id), None)
        if turn is not None and turn.yield_reason in ("completed", "needs_input", "steered") and str(sent.number) not in told:
            yield f"{sent.text} was never given, and {turn.id} is {turn.yield_reason}"


def _given_again(process: Process, log: Rows) -> Iterator[str]:
    """No prompt is given again once a tool has started."""
    tools = 0
    for event in log:
        if event.turn_id != process.turn.id:
            continue
        begins = event.type == "turn_started" and json.loads(event.body)["attempt"] == process.turn.attempt
        if begins and tools:
            yield from (f"{process.turn.id} was asked again: {text}" for text in process.prompts if GO_ON not in text)
        tools += event.type == "tool_start"


def _two_at_once(world: World) -> Iterator[str]:
    """No two processes of a session live at the same time: they are on one machine.

    Only that of a host which stood still while it started it, or was thought to be dead, may be there for a moment, until the
    host has looked.
    """
    by_session: dict[str, list[Process]] = defaultdict(list)
    for process in world.machine.processes:
        by_session[process.turn.session_id].append(process)
    for of_session in by_session.values():
        for one, other in pairwise(of_session):
            together = min(one.ended_at, other.ended_at) - other.began_at
            if together > (MOMENT if one.late or other.late else 0):
                yield f"processes {one.number} and {other.number} of {one.turn.session_id} live at once"
