"""Feed a recording of a CLI through its dialogue: what the golden tests and `switchboard runtimes replay` run.

A recording is a folder with `raw.jsonl` (exact stdout bytes), `meta.json` (argv, exit code, signal, stderr tail and, for
two-way modes, `stdin_lines` with the stdout line each came after), `case.json` (its mode) and `expected.jsonl` (what the
tests compare). The dialogue writes its own requests;
the recorded answers are matched to them by method and order, and a request the recording lacks gets an empty result.
A recorded prompt that came while a turn ran is a steer where the dialogue takes one, else the next turn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from signal import Signals
from typing import Any

from adapters.dialogue import Exit, Unsupported, json_line
from adapters.events import Event
from adapters.profile import Mode
from adapters.registration import profiles


def replay(mode: Mode, meta: Mapping[str, Any], stdout: bytes) -> Iterator[Event]:
    """The events of a recording, in order. Every turn in it ends in exactly one `done`."""
    return _Replay(mode, meta).run(stdout)


def _call_of(message: Any) -> tuple[str, str] | None:
    """(method, id) of a request line: JSON-RPC, or a control request with its subtype."""
    if not isinstance(message, dict):
        return None
    if message.get("type") == "control_request":
        return str(message.get("request", {}).get("subtype")), str(message.get("request_id"))
    if "method" in message and "id" in message:
        return str(message["method"]), json.dumps(message["id"])
    return None


class _Answers:
    """Matches recorded answers to our own requests by method and order."""

    def __init__(self, recorded: list[Any]) -> None:
        self._place_of_recorded: dict[str, tuple[str, int]] = {}
        self._ours: dict[tuple[str, int], str] = {}
        self._sent: dict[str, int] = {}
        seen: dict[str, int] = {}
        for call in filter(None, map(_call_of, recorded)):
            self._place_of_recorded[call[1]] = (call[0], seen.setdefault(call[0], 0))
            seen[call[0]] += 1
        self._places = set(self._place_of_recorded.values())

    def sent(self, message: Any) -> bytes | None:
        """Note a request of ours; the answer to give at once if the recording has none."""
        call = _call_of(message)
        if call is None:
            return None
        place = (call[0], self._sent.get(call[0], 0))
        self._sent[call[0]] = place[1] + 1
        self._ours[place] = call[1]
        if place in self._places:
            return None
        if message.get("type") == "control_request":
            return json_line({"type": "control_response", "response": {"subtype": "success", "request_id": call[1]}})
        return json_line({"jsonrpc": "2.0", "id": message["id"], "result": {}})

    def rewrite(self, line: bytes) -> bytes:
        """A recorded answer with its id replaced by that of our own request."""
        if b'"id"' not in line and b'"request_id"' not in line:
            return line
        try:
            message = json.loads(line)
        except ValueError:
            return line
        if not isinstance(message, dict) or "method" in message:
            return line
        if message.get("type") == "control_response":
            answer = message.get("response", {})
            ours = self._ours.get(self._place_of_recorded.get(str(answer.get("request_id")), ("", -1)))
            if ours is not None:
                answer["request_id"] = ours
                return json_line(message)
        elif "id" in message and ("result" in message or "error" in message):
            ours = self._ours.get(self._place_of_recorded.get(json.dumps(message["id"]), ("", -1)))
            if ours is not None:
                return json_line(message | {"id": json.loads(ours)})
        return line


class _Replay:
    def __init__(self, mode: Mode, meta: Mapping[str, Any]) -> None:
        ids = count(1)
        self.meta = meta
        self.live = mode.launch is not None
        self.dialogue = mode.dialogue(lambda: f"call_{next(ids)}")
        self.turn = mode.recorded_turn(meta)
        self.inputs = deque((item["after_line"], _parse(item["line"])) for item in meta.get("stdin_lines") or [])
        self.answers = _Answers([message for _, message in self.inputs])
        self.waiting: deque[str] = deque()
        self.memory: Mapping[str, Any] = self.turn.memory
        self.started = False

    def run(self, stdout: bytes) -> Iterator[Event]:
        if not self.inputs:
            yield from self._start(self.turn.prompt)
        lines = stdout.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        for number, line in enumerate(lines):
            yield from self._input_until(number)
            if self._over():
                break
            yield from self._feed(self.answers.rewrite(line))
            yield from self._next_turn()
        yield from self._input_until(len(lines))
        if not self.started:
            yield from self._start(self.turn.prompt)
        yield from self.dialogue.finish(_exit(self.meta))

    def _over(self) -> bool:
        """Nobody reads on when the last turn has ended; what only exists as a recording is read to its end."""
        return self.live and self.started and not (self.dialogue.running or self.waiting or self.inputs)

    def _input_until(self, number: int) -> Iterator[Event]:
        while self.inputs and self.inputs[0][0] <= number:
            yield from self._input(self.inputs.popleft()[1])

    def _input(self, message: Any) -> Iterator[Event]:
        meant = self.dialogue.recorded(message) if isinstance(message, dict) else None
        if not self.started and (meant is None or meant.kind != "start"):
            yield from self._start_ahead()
        if meant is None:
            return
        try:
            if meant.kind == "interrupt":
                yield from self._send(self.dialogue.interrupt())
            elif self.dialogue.running:
                yield from self._send(self.dialogue.steer(meant.text))
            elif meant.kind == "start":
                yield from self._start(meant.text)
        except Unsupported:
            if meant.kind != "interrupt":
                self.waiting.append(meant.text)

    def _start_ahead(self) -> Iterator[Event]:
        """A recorded handshake comes before the first prompt; the dialogue sends its own when its first turn starts."""
        for place, (_, message) in enumerate(self.inputs):
            meant = self.dialogue.recorded(message) if isinstance(message, dict) else None
            if meant is not None and meant.kind == "start":
                del self.inputs[place]
                yield from self._start(meant.text)
                return

    def _next_turn(self) -> Iterator[Event]:
        if self.waiting and not self.dialogue.running:
            yield from self._start(self.waiting.popleft())

    def _start(self, prompt: str) -> Iterator[Event]:
        memory = self.dialogue.memory if self.started else self.turn.memory
        self.started = True
        step = self.dialogue.start(replace(self.turn, prompt=prompt, memory=memory))
        yield from step.events
        yield from self._send(step.outgoing)

    def _feed(self, line: bytes) -> Iterator[Event]:
        step = self.dialogue.feed(line)
        yield from step.events
        yield from self._send(step.outgoing)

    def _send(self, outgoing: list[bytes]) -> Iterator[Event]:
        for line in outgoing:
            answer = self.answers.sent(_parse(line))
            if answer is not None:
                yield from self._feed(answer.rstrip(b"\n"))


def _parse(line: str | bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _exit(meta: Mapping[str, Any]) -> Exit:
    stopped = meta.get("killed_by_recorder_after_s") is not None
    return Exit(
        code=meta.get("exit_code"),
        signal=Signals[meta["signal"]].value if meta.get("signal") else None,
        stderr=meta.get("stderr_tail") or "",
        cause="deadline_exceeded" if stopped else "exited",
    )


def main(argv: list[str] | None = None) -> int:
    known = profiles(conformance=True)
    parser = argparse.ArgumentParser(prog="switchboard runtimes replay", description=__doc__.split("\n", 1)[0])
    parser.add_argument("runtime", help=", ".join(sorted(known)))
    parser.add_argument("--mode", help="which way of speaking to the runtime; default: the runtime's own default")
    parser.add_argument("--meta", required=True, type=Path, help="meta.json of the recording")
    parser.add_argument("stdout", type=Path, help="raw.jsonl of the recording")
    args = parser.parse_args(argv)
    profile = known.get(args.runtime)
    if profile is None:
        parser.error(f"unknown runtime {args.runtime!r}; choose one of: {', '.join(sorted(known))}")
    if args.mode not in (None, *profile.modes):
        parser.error(f"runtime {args.runtime!r} has no mode {args.mode!r}; choose one of: {', '.join(profile.modes)}")
    try:
        meta, stdout = json.loads(args.meta.read_text("utf-8")), args.stdout.read_bytes()
    except (OSError, ValueError) as exc:
        parser.error(f"the recording cannot be read: {exc}")
    for event in replay(profile.mode(args.mode), meta, stdout):
        sys.stdout.write(json.dumps(asdict(event), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
