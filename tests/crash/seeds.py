"""The seed of a crash test: printed, and taken from SWITCHBOARD_CRASH_SEED to play it again."""

from __future__ import annotations

import os
import random


def seeded() -> random.Random:
    seed = os.environ.get("SWITCHBOARD_CRASH_SEED") or str(random.randrange(10**9))
    print(f"SWITCHBOARD_CRASH_SEED={seed}")
    return random.Random(seed)
