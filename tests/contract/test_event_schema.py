"""specs/events.schema.json describes every event of every recording, and knows every event type."""

import json
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from adapters.events import EventType

ROOT = Path(__file__).parent.parent.parent
SCHEMA = json.loads((ROOT / "specs/events.schema.json").read_text("utf-8"))
GOLDEN = sorted((ROOT / "tests/golden").glob("*/*/expected.jsonl"))


def test_the_schema_knows_every_event_type() -> None:
    assert set(SCHEMA["properties"]["type"]["enum"]) == set(get_args(EventType))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_expected_events_follow_the_schema(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for line in path.read_text("utf-8").split("\n"):
        if line:
            validator.validate(json.loads(line))
