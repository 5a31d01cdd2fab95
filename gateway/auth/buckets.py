"""Token buckets in memory: how many requests a minute somebody may send. A minute's worth may come at once.

A bucket that rested for a minute is full, so it can be forgotten: there are never more than those of the last two.
"""

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
    """One per name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}  # used this minute
        self._resting: dict[str, _Bucket] = {}  # used in the one before
        self._turned = clock()

    def take(self, name: str, rate: int) -> int:
        """0 if a request may pass now; else the whole seconds until the next one may."""
        now = self._clock()
        if now - self._turned >= 60:
            self._buckets, self._resting, self._turned = {}, self._buckets, now
        bucket = self._buckets.get(name) or self._resting.pop(name, None)
        if bucket is None or bucket.rate != rate:
            bucket = _Bucket(rate, rate, now)
        self._buckets[name] = bucket
        bucket.level = min(rate, bucket.level + (now - bucket.at) * rate / 60)
        bucket.at = now
        if bucket.level < 1:
            return max(1, math.ceil((1 - bucket.level) * 60 / rate))
        bucket.level -= 1
        return 0

    def __len__(self) -> int:
        return len(self._buckets) + len(self._resting)
