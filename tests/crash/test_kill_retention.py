"""The gateway dies while it archives, a few times; `make crash` does it more often. [KEEP-1]"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.found import Found
from tests.crash.keeping import kill_keepers
from tests.crash.seeds import seeded
from tests.support import Born


@pytest.mark.usefixtures("database_url")
async def test_no_kill_loses_or_repeats_what_goes_into_the_archive(tmp_path: Path, born: Born) -> None:
    await kill_keepers(tmp_path, Found("retention", 2), seeded(), {}, born)
