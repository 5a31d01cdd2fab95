"""Who is believed to be alive, after what the server says of its own age."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.db.postgres import SETTLE_SECONDS, _alive


class Answers:
    """A server that has been up for so long, by its clock, and knows nobody."""

    def __init__(self, up: float) -> None:
        self.up = up

    def exec_driver_sql(self, sql: str) -> Answers:
        return self

    def scalar_one(self) -> float:
        return self.up

    def scalars(self) -> list[int]:
        return []


@pytest.mark.parametrize(
    ("up", "believed"),
    [(SETTLE_SECONDS - 1, {"wrk_1"}), (SETTLE_SECONDS + 1, set()), (-3600.0, set())],
    ids=["just started", "settled", "its clock was set back"],
)
def test_who_has_no_lock_is_dead_unless_the_server_has_just_started(up: float, believed: set[str]) -> None:
    """[LEASE-7]"""
    assert _alive(cast(Any, Answers(up)), ["wrk_1"]) == believed
