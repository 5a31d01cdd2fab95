"""What a caller is told when the model's provider refuses: the same words whatever runs underneath."""

from __future__ import annotations

import re

import pytest

from adapters.events import NEUTRAL, ErrorCategory
from tests.e2e.legs import Leg
from tests.e2e.stage import Played, Stage
from tests.support import Json

_INCIDENT = re.compile(r"inc_[0-9a-f]{24}")


def failed(category: ErrorCategory, *, retryable: bool, incident: str) -> list[Json]:
    """The parts of the message a failed task ends with."""
    said = NEUTRAL[category]
    error = {"category": category, "retryable": retryable, "message": said, "incident": incident}
    return [{"text": f"{said} (incident {incident})"}, {"data": error}]


def check(played: Played, category: ErrorCategory, *, retryable: bool) -> None:
    parts = played.status["message"]["parts"]
    incident = parts[1]["data"]["incident"]
    assert _INCIDENT.fullmatch(incident)
    assert parts == failed(category, retryable=retryable, incident=incident)
    assert played.kinds == ["task", "working", "failed"]


@pytest.mark.parametrize(
    ("scenario", "category", "retryable"),
    [
        ("SCN-403", "permission_denied", False),
        ("SCN-404", "model_not_found", False),
        ("SCN-429", "rate_limit", True),
    ],
)
async def test_an_error_of_the_model_is_told_in_neutral_words(
    stage: Stage, leg: Leg, scenario: str, category: ErrorCategory, retryable: bool
) -> None:
    check(await stage.play(leg, scenario), category, retryable=retryable)


async def test_without_a_key_an_agent_cannot_sign_in(stage: Stage, leg: Leg) -> None:
    async with stage.client() as client:
        played = await stage.say(client, f"{leg.agent}-keyless", "SCN-text")
    check(played, "auth_error", retryable=False)
