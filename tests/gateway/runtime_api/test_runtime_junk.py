"""Whatever an image posts, it is taken as the schema has it or refused with a reason. [RUN-3]"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidParams
from gateway.runtime_api.app import batch_of, refusal

SCALARS: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)


VALUES = st.recursive(SCALARS, nested)
TYPES = ["chunk", "status", "tool_start", "tool_result", "artifact", "ask", "message", "steered", "usage", "notice", "done"]
NAMES = ["text", "call_id", "tool", "input", "output", "name", "parts", "question", "steer", "kind", "yield_reason", "error"]
EVENTS = st.builds(
    lambda name, kind, more: {"id": name, "type": kind, **more},
    st.sampled_from(["1", "2", "3"]) | VALUES,
    st.sampled_from(TYPES) | VALUES,
    st.dictionaries(st.sampled_from(NAMES), VALUES | st.just([{"text": "a"}]), max_size=4),
)


def taken(body: bytes) -> bool:
    try:
        batch = batch_of(body)
    except InvalidParams as exc:
        refused = json.loads(bytes(refusal(exc).body))
    else:
        ids = [event.id for event in batch.events]
        assert len(ids) == len(set(ids))
        return True
    assert refused["code"] in ("invalid_event", "invalid_params")
    assert bool(refused["reason"]) == (refused["index"] is not None) == (refused["code"] == "invalid_event")
    return False


@given(st.binary(max_size=200))
def test_bytes(body: bytes) -> None:
    assert not taken(body)


@given(VALUES)
def test_json(body: Any) -> None:
    taken(json.dumps(body).encode())


@given(st.lists(EVENTS | VALUES, max_size=4))
def test_events(events: list[Any]) -> None:
    taken(json.dumps({"events": events}).encode())


def test_what_is_no_text_is_refused_before_it_is_stored() -> None:
    assert not taken(b'{"events": [{"id": "1", "type": "chunk", "text": "\\ud800"}]}')
    assert not taken(b'{"events": [{"id": "1", "type": "chunk", "text": "\xff"}]}')
    assert not taken(b'{"events": [{"id": "1", "type": "usage", "cost_usd": NaN}]}')
    assert taken(b'{"events": [{"id": "1", "type": "chunk", "text": "\\u0000"}]}')
