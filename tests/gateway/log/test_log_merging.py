"""Merging adjacent chunks: text is never lost, reordered or split. [INV-8]"""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from adapters import events as ev
from adapters.events import Event
from gateway.log.store import MAX_CHUNK, merged

texts = st.text(max_size=20) | st.integers(0, 2 * MAX_CHUNK).map(lambda size: "\U0001f600" * size)
events = st.one_of(
    texts.map(ev.chunk),
    texts.map(ev.thinking),
    st.just(ev.notice("kind", "text")),
    st.just(ev.done("completed")),
)
MERGED = ("chunk", "thinking")


def story(told: list[Event]) -> list[tuple[str, str]]:
    """What was told, whatever the pieces: runs of one type as one text."""
    runs = groupby(told, key=lambda event: event.type if event.type in MERGED else id(event))
    return [(run[0].type, "".join(event.body.get("text", "") for event in run)) for run in (list(run) for _, run in runs)]


@given(st.lists(events, max_size=40))
def test_merging_tells_the_same_story(told: list[Event]) -> None:
    assert story(list(merged(told))) == story(told)


@given(st.lists(events, max_size=40))
def test_a_piece_is_never_split(told: list[Event]) -> None:
    pieces = [event.body["text"] for event in told if event.type in MERGED]
    edges = {sum(map(len, pieces[:count])) for count in range(len(pieces) + 1)}
    out = [event.body["text"] for event in merged(told) if event.type in MERGED]
    assert {sum(map(len, out[:count])) for count in range(len(out) + 1)} <= edges


@given(st.lists(events, max_size=40))
def test_what_was_merged_is_short(told: list[Event]) -> None:
    originals = [event.body["text"] for event in told if event.type in MERGED]
    for event in merged(told):
        if event.type in MERGED and len(event.body["text"]) > MAX_CHUNK:
            assert event.body["text"] in originals


@given(st.lists(events, max_size=40))
def test_everything_but_text_goes_through_as_it_is(told: list[Event]) -> None:
    kept = [event for event in merged(told) if event.type not in MERGED]
    assert all(ours is theirs for ours, theirs in zip(kept, [e for e in told if e.type not in MERGED], strict=True))


def test_chunks_that_wait_together_become_one() -> None:
    told = [ev.chunk("a"), ev.chunk("b"), ev.thinking("c"), ev.thinking("d"), ev.chunk("e")]
    assert list(merged(told)) == [ev.chunk("ab"), ev.thinking("cd"), ev.chunk("e")]
