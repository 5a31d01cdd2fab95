"""Token buckets in memory: how many requests a minute somebody may send. A minute's worth may come at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    rate: int  # a minute; also the most it holds
    level: float
    at: float


class Buckets:
    """One per name. Registered callers alone have one, so they stay few."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str, rate: int) -> int:
        """0 if a request may pass now; else the whole seconds until the next one may."""
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[name] = _Bucket(rate, rate, now)
        bucket.level = min(rate, bucket.level + (now - bucket.at) * rate / 60)
        bucket.at = now
        if bucket.level < 1:
            return max(1, math.ceil((1 - bucket.level) * 60 / rate))
        bucket.level -= 1
        return 0
