"""Every recording of a real CLI, through its dialogue: `tests/golden/<runtime>/<case>/raw.jsonl -> expected.jsonl`.

Proves [DLG-1], [DLG-2], [DLG-3], [DLG-4].

A case has the recording (`raw.jsonl`: exact stdout bytes, `meta.json`: how it was made) and `case.json` with the mode.
To look at one: switchboard runtimes replay RUNTIME --mode MODE --meta meta.json raw.jsonl
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.events import Event
from adapters.registration import profiles
from adapters.replay import replay

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.parent.relative_to(GOLDEN) for path in GOLDEN.glob("*/*/raw.jsonl"))
VENDORS = (
    "claude",
    "anthropic",
    "codex",
    "openai",
    "gemini",
    "google",
    "opencode",
    "toolu_",
    "gpt-",
    "sonnet",
    "ses_e",
    "/home/agent",
)
RUNTIMES = profiles(conformance=True)
RECORDED = {"claude": 38, "codex": 41, "gemini": 44, "opencode": 45}


@cache
def recording(case: Path) -> tuple[str, str, dict[str, Any], bytes]:
    """(runtime, mode, meta, stdout)"""
    folder = GOLDEN / case
    mode = json.loads((folder / "case.json").read_text("utf-8"))["mode"]
    return case.parts[0], mode, json.loads((folder / "meta.json").read_text("utf-8")), (folder / "raw.jsonl").read_bytes()


def played(case: Path, stdout: bytes | None = None) -> list[Event]:
    runtime, mode, meta, recorded = recording(case)
    return list(replay(RUNTIMES[runtime].mode(mode), meta, recorded if stdout is None else stdout))


def text_of(events: list[Event]) -> str:
    return "".join(event.body["text"] for event in events if event.type == "chunk")


def last_known(events: list[Event]) -> str:
    """The last event's type; what is only a recording is read on after the last turn, and then kept raw."""
    return [event.type for event in events if event.type != "raw"][-1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recording_gives_its_expected_events(case: Path) -> None:
    expected = [json.loads(line) for line in (GOLDEN / case / "expected.jsonl").read_text("utf-8").split("\n") if line]
    assert [asdict(event) for event in played(case)] == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_recording_ends_every_turn_and_every_tool_once(case: Path) -> None:
    events = played(case)
    assert events[-1].type == "done"
    started = [event.body["call_id"] for event in events if event.type == "tool_start"]
    ended = [event.body["call_id"] for event in events if event.type == "tool_result"]
    assert Counter(started) == Counter(ended)
    assert max(Counter(started).values(), default=1) == 1


@pytest.mark.parametrize("case", CASES, ids=str)
def test_callers_are_told_nothing_of_the_vendor(case: Path) -> None:
    told = [event.body for event in played(case) if event.level != "internal" and event.type != "chunk"]
    said = json.dumps(told).lower()
    script = json.dumps(recording(case)[2].get("mock_script", "")).lower()
    assert [word for word in VENDORS if word in said and word not in script] == []


def test_every_runtime_has_recordings() -> None:
    missing = {name for name in RUNTIMES if not any(case.parts[0] == name for case in CASES)}
    assert missing == set(), "a runtime without recordings is not proven: add tests/golden/<runtime>/<case>"


def test_every_known_recording_is_here() -> None:
    found = Counter(case.parts[0] for case in CASES)
    assert sum(RECORDED.values()) == 168
    assert {name: count for name, count in RECORDED.items() if found[name] < count} == {}


cases = st.sampled_from(CASES)
junk = st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")), max_size=4)
prop = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@prop
@given(case=cases, where=st.floats(0, 1))
def test_a_stream_cut_anywhere_loses_no_text_and_ends_once(case: Path, where: float) -> None:
    stdout = recording(case)[3]
    events = played(case, stdout[: int(len(stdout) * where)])
    # One may be longer: text that is told again after a retry is left out only once it is known to be that.
    whole, cut = text_of(played(case)), text_of(events)
    assert whole.startswith(cut) or cut.startswith(whole)
    assert last_known(events) == "done"


@prop
@given(case=cases, lines=junk, where=st.floats(0, 1))
def test_junk_between_the_lines_is_kept_and_changes_nothing_else(case: Path, lines: list[bytes], where: float) -> None:
    recorded = recording(case)[3].split(b"\n")
    at = int((len(recorded) - 1) * where)
    noisy = [*recorded[:at], *(b"#" + line for line in lines), *recorded[at:]]
    meta_sensitive = recording(case)[2].get("stdin_lines")
    events = played(case, b"\n".join(noisy))
    if not meta_sensitive:
        assert text_of(events) == text_of(played(case))
    assert last_known(events) == "done"


@prop
@given(runtime=st.sampled_from(sorted(RUNTIMES)), data=st.data(), stdout=st.binary(max_size=2000))
def test_any_bytes_end_in_exactly_one_done(runtime: str, data: st.DataObject, stdout: bytes) -> None:
    mode = RUNTIMES[runtime].mode(data.draw(st.sampled_from(sorted(RUNTIMES[runtime].modes))))
    events = list(replay(mode, {"argv": [], "exit_code": 0}, stdout))
    assert [event.type for event in events].count("done") == 1
    assert last_known(events) == "done"
