"""Ctrl-C while an answer comes: it interrupts the waiting, never the showing.

An exception in the middle of showing an event would leave it half printed, or printed and not remembered. A second
Ctrl-C interrupts even that, for a terminal or a pipe that takes nothing any more.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class CtrlC:
    def __init__(self) -> None:
        self._busy = False
        self._pressed = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Where nobody listens to Ctrl-C (it is ignored in the background), nothing is changed."""
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Raises KeyboardInterrupt at the end, if Ctrl-C came meanwhile."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._pressed:
            self._pressed = False
            raise KeyboardInterrupt

    def _press(self, signum: int, frame: FrameType | None) -> None:
        if self._busy and not self._pressed:
            self._pressed = True
        else:
            raise KeyboardInterrupt
