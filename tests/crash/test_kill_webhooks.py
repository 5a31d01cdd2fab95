"""Gateway and webhook receiver are killed by turns, a few times; `make crash` does it more often.

[HOOK-1] [HOOK-2] [PUSH-2]
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.found import Found
from tests.crash.hooks import kill_by_turns
from tests.crash.seeds import seeded
from tests.support import Born


@pytest.mark.usefixtures("database_url")
async def test_no_kill_loses_or_reorders_what_webhooks_are_told(tmp_path: Path, born: Born) -> None:
    found = Found("webhooks", 2)
    await kill_by_turns(tmp_path, found, seeded(), {}, born)
    assert found.counts["deliveries"]
