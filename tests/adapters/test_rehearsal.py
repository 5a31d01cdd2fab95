"""The rehearsal runtime played for real: a child process, spoken to through its own dialogue."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from adapters import events as ev
from adapters.dialogue import Exit, Turn
from adapters.events import Event
from adapters.jsonl import JsonLinesDialogue
from adapters.profile import Plan
from adapters.runtimes.rehearsal.profile import PROFILE


class Child:
    """A rehearsal process and its dialogue, driven by hand."""

    def __init__(self, home: Path) -> None:
        ids = count(1)
        mode = PROFILE.mode()
        assert mode.launch is not None
        launch = mode.launch(Plan(executable=sys.executable, home=str(home), turn=Turn("")))
        env = {"HOME": str(home), "PATH": os.environ["PATH"], **launch.env}
        self.process = subprocess.Popen(launch.argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.dialogue = mode.dialogue(lambda: f"call_{next(ids)}")
        self.events: list[Event] = []

    def write(self, lines: list[bytes]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(lines))
        self.process.stdin.flush()

    def play(self, prompt: str, session: str | None = None, on: Callable[[Event], None] | None = None) -> list[Event]:
        """One whole turn; `on` sees each event as it comes."""
        self.events = []
        self.write(self.dialogue.start(Turn(prompt, native_session=session)).outgoing)
        assert self.process.stdout is not None
        while self.dialogue.running and (line := self.process.stdout.readline()):
            for event in self.dialogue.feed(line.rstrip(b"\n")).events:
                self.events.append(event)
                if on:
                    on(event)
        if self.dialogue.running:
            self.events += self.dialogue.finish(Exit(code=self.process.wait(5)))
        return self.events


@contextmanager
def child(home: Path) -> Iterator[Child]:
    it = Child(home)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.communicate()


def said(events: list[Event]) -> str:
    return "".join(event.body["text"] for event in events if event.type == "chunk")


def shown(events: list[Event]) -> list[Event]:
    return [event for event in events if event.level != "internal"]


def test_a_turn_says_the_prompt_back_and_runs_one_real_command(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        events = it.play("Hello dear world")
    tail = [
        ev.tool_start("call_1", "shell", {"command": "echo rehearsal"}, "echo rehearsal"),
        ev.tool_result("call_1", "rehearsal", exit_code=0),
        ev.chunk("The command said: rehearsal\n"),
        ev.done("completed"),
    ]
    assert shown(events)[-4:] == tail
    assert said(events) == "You said: Hello dear world\nThe command said: rehearsal\n"


def test_a_new_process_continues_the_session_of_the_one_before(tmp_path: Path) -> None:
    with child(tmp_path) as first:
        session = next(event.body["id"] for event in first.play("first words") if event.type == "native_session")
    with child(tmp_path) as second:
        events = second.play("N=1", session)
    assert said(events) == "Turn 2. Before this you said: first words\nword0 "
    assert "native_session" not in [event.type for event in events]


def test_a_steer_is_answered_in_the_running_turn(tmp_path: Path) -> None:
    with child(tmp_path) as it:

        def steer(event: Event) -> None:
            if event.type == "tool_start":
                it.write(it.dialogue.steer("hurry", "trn_2"))
                it.write(it.dialogue.interrupt())

        events = it.play("SLEEPTOOL=60", on=steer)
    assert ev.steered("trn_2") in events
    assert shown(events)[-3:] == [
        ev.chunk("You added: hurry\n"),
        ev.tool_result("call_1", "", is_error=True),
        ev.done("canceled"),
    ]


def test_an_interrupt_cancels_the_turn_and_the_process_takes_the_next_one(tmp_path: Path) -> None:
    with child(tmp_path) as it:

        def interrupt(event: Event) -> None:
            if event.type == "chunk":
                it.write(it.dialogue.interrupt())

        first = it.play("N=2 D=60000000", on=interrupt)
        second = it.play("N=2")
    assert shown(first) == [ev.chunk("word0 "), ev.done("canceled")]
    assert shown(second)[-1] == ev.done("completed")


def test_directives_shape_the_end_of_a_turn(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        asked = shown(it.play("N=1 ASK"))[-2:]
        failed = it.play("N=1 FAIL=rate_limit")[-2:]
        broken = shown(it.play("N=1 TOOLFAIL"))[-3:]
    assert asked == [ev.ask("Shall I go on?"), ev.done("needs_input")]
    assert failed == [ev.error_detail("rate_limit", "a rehearsed failure"), ev.done("failed", "rate_limit")]
    assert broken == [
        ev.tool_result("call_1", "rehearsal", is_error=True, exit_code=7),
        ev.chunk("The command failed with exit code 7.\n"),
        ev.done("completed"),
    ]


def test_a_crash_after_half_of_the_chunks_is_a_runtime_crash(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        events = it.play("N=4 CRASH")
    assert shown(events) == [ev.chunk("word0 "), ev.chunk("word1 "), ev.done("failed", "runtime_crash")]


def test_junk_lines_are_kept_raw_and_change_nothing(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        events = it.play("N=1 GARBAGE")
    assert [event.body["reason"] for event in events if event.type == "raw"] == [
        "not JSON",
        "not an object",
        "unknown type",
        "unexpected shape: TypeError",
        "not JSON",
    ]
    assert shown(events) == [ev.chunk("word0 "), ev.done("completed")]


def test_a_megabyte_is_one_chunk(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        events = it.play("BIG=1000000 N=1")
    assert shown(events)[0] == ev.chunk("x" * 1_000_000)


def test_a_hanging_turn_ignores_the_interrupt_and_dies_of_a_signal(tmp_path: Path) -> None:
    with child(tmp_path) as it:

        def stop(event: Event) -> None:
            if event.type == "chunk":
                it.write(it.dialogue.interrupt())
                it.process.send_signal(signal.SIGTERM)

        events = it.play("N=1 HANG", on=stop)
    assert it.process.returncode == -signal.SIGTERM
    assert shown(events)[-1] == ev.done("canceled")


def test_an_orphan_outlives_the_process(tmp_path: Path) -> None:
    with child(tmp_path) as it:
        events = it.play("N=1 ORPHAN")
    pid = next(int(event.body["text"]) for event in events if event.type == "notice")
    assert os.getpgid(pid) == pid
    os.kill(pid, signal.SIGKILL)


def test_what_a_foreign_runtime_says_reaches_callers_in_our_words_only() -> None:
    dialogue = JsonLinesDialogue(lambda: "call_1")
    dialogue.start(Turn("hi"))
    lines = [
        {"type": "tool_start", "call_id": "vendor-1", "tool": "VendorTool", "input": {}},
        {"type": "artifact", "name": "a.txt", "parts": [{"text": "a"}]},
        {"type": "done", "yield_reason": "failed", "error": {"category": "surprise", "text": "vendor prose"}},
    ]
    events = [event for line in lines for event in dialogue.feed(json.dumps(line).encode()).events]
    assert shown(events) == [
        ev.tool_start("call_1", "other", {}, "Other"),
        ev.artifact("a.txt", [{"text": "a"}]),
        ev.tool_result("call_1", "The tool reported an error.", is_error=True),
        ev.done("failed", "protocol_error"),
    ]
