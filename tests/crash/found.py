"""What a run of the crash tests did and found: counts, violations, and how far it is."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

EVERY_SECONDS = 15.0
WIDTH = 500  # characters of a line that are told of an assertion


@dataclass
class Found:
    """Of one part on one database. `rounds`: how many there shall be."""

    name: str
    rounds: int
    keeps_going: bool = False  # else the first violation ends the run
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    _told: float = 0.0

    @contextmanager
    def looking_at(self, what: str) -> Iterator[None]:
        """An assertion that fails inside, an answer nobody expects, or what takes for ever, is a violation."""
        try:
            yield
        except Exception as exc:
            lines = "".join(traceback.format_exception(exc)).splitlines()
            said = "\n".join([what, *(line[:WIDTH] for line in lines)])
            self.violations.append(said)
            print(f"[{self.name}] VIOLATION {said}", flush=True)
            if not self.keeps_going:
                raise

    def took(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    def next(self) -> bool:
        """Whether another round is due; called before each."""
        if time.monotonic() > self._told + EVERY_SECONDS or self.done == self.rounds:
            self._told = time.monotonic()
            print(self, flush=True)
        self.done += 1
        return self.done <= self.rounds

    def __str__(self) -> str:
        passed = time.monotonic() - self.began
        left = f", {passed / self.done * (self.rounds - self.done):.0f} s left" if 0 < self.done < self.rounds else ""
        counts = "".join(f", {count} {name}" for name, count in self.counts.items())
        spread = "".join(
            f", {name} p50 {sorted(times)[len(times) // 2]:.2f} max {max(times):.2f} s" for name, times in self.seconds.items()
        )
        rounds = f"{min(self.done, self.rounds)}/{self.rounds} rounds in {passed:.0f} s{left}"
        return f"[{self.name}] {rounds}{counts}{spread}, {len(self.violations)} violations"
