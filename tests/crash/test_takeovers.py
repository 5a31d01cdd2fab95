"""What `make crash` looks at when a turn is taken over can see what it is there for."""

from __future__ import annotations

import pytest

from tests.crash.found import Found
from tests.crash.takeovers import AFTER_KILL, AFTER_STOP, LEASE, check_times
from tests.crash.witness import check_log, check_turn
from tests.support import Json

PROMPT = "N=100000 D=2000"


def log(*told: tuple[str, Json]) -> list[Json]:
    return [
        {"id": f"evt_{seq}", "seq": seq, "sub": 0, "level": "user", "type": type, "body": body}
        for seq, (type, body) in enumerate(told, 1)
    ]


def begun(attempt: int) -> tuple[str, Json]:
    return "turn_started", {"attempt": attempt}


def chunk(text: str) -> tuple[str, Json]:
    return "chunk", {"text": text}


DONE: tuple[str, Json] = ("done", {"yield_reason": "canceled"})
BACK = "Turn 2. Before this you said: nothing\n"


@pytest.mark.parametrize(
    "late",
    [
        [begun(2), chunk("word57 "), DONE],
        [begun(2), chunk("word57 "), chunk(f"{BACK}word0 "), DONE],
        [begun(2), chunk(f"{BACK}word0 "), chunk("word57 "), chunk("word1 "), DONE],
        [begun(2), chunk(f"{BACK}word0 word1 "), chunk("word2 "), DONE, chunk("word57 ")],
        [begun(2), ("tool_result", {"call_id": "call_1"}), DONE],
    ],
    ids=["alone", "before the first word", "between words", "after the end", "of a tool"],
)
def test_what_a_superseded_worker_said_late_is_seen(late: list[tuple[str, Json]]) -> None:
    """[INV-3] A number it has from the log; what is wrong is where it stands."""
    first = [begun(1), chunk("word0 word1 ")]
    check_turn(log(*first, begun(2), chunk(f"{BACK}word0 "), chunk("word1 "), DONE), PROMPT)
    events = log(*first, *([("tool_start", {"call_id": "call_1"})] if late[1][0] == "tool_result" else []), *late)
    check_log(events)
    with pytest.raises(AssertionError):
        check_turn(events, PROMPT)


@pytest.mark.parametrize(
    ("kills", "stops", "says"),
    [
        ([0.2, 0.4, 9.0], [6.0, 6.5, 30.0], ""),
        ([0.2], [], ""),
        ([0.2, 1.4, 1.5], [6.0], "TOO SLOW: turns go on after a kill after 1.40 s"),
        ([0.2], [LEASE + 2.1], "TOO SLOW: turns go on after a stop after 7.10 s"),
    ],
    ids=["half of them in time", "no stop", "kills", "stops"],
)
def test_half_of_the_turns_must_go_on_in_time(kills: list[float], stops: list[float], says: str) -> None:
    found = Found("takeovers", 1)
    for what, times in ((AFTER_KILL, kills), (AFTER_STOP, stops)):
        for seconds in times:
            found.took(what, seconds)
    if not says:
        check_times(found)
        return
    with pytest.raises(AssertionError, match=says):
        check_times(found)
