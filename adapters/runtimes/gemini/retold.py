"""Text that the CLI tells a second time.

When an answer breaks off, the CLI waits one second or more, asks the model again and prints the new answer after the
broken one without any mark. It is recognised where it can be: a piece that comes after such a pause and says what
the answer began with is held back, and so is what follows as long as it repeats the answer word for word. What goes on
beyond the answer is shown; if it turns out to differ, all that was held is shown. A retry that begins differently cannot
be told from an answer that goes on, so the broken text stays before it. No text is ever lost: what is never shown
is returned by `drop`, for the owner.
"""

from __future__ import annotations

from datetime import datetime

PAUSE = 0.9  # seconds; the CLI waits 1, 2 and 4


class Retold:
    """The answer since the last tool call: what callers were shown of it, and what is held back."""

    def __init__(self) -> None:
        self._shown = ""
        self._held = ""
        self._last: datetime | None = None

    def feed(self, text: str, timestamp: str) -> tuple[str, str]:
        """One piece. Returns what to show now, and what was held for good."""
        pause = self._pause(timestamp)
        if pause >= PAUSE and self._repeats(text):
            dropped, self._held = self._held, ""
            return self._hold(text), dropped
        if self._held:
            return self._hold(self._held + text), ""
        self._shown += text
        return text, ""

    def release(self) -> str:
        """What is held, to be shown: the answer ended well, so it was meant."""
        held, self._shown, self._held = self._held, "", ""
        return held

    def drop(self) -> str:
        """What is held, not to be shown: the answer broke off once more."""
        return self.release()

    def _hold(self, told: str) -> str:
        if self._shown.startswith(told):
            self._held = told
            return ""
        shown = told[len(self._shown) :] if told.startswith(self._shown) else told
        self._shown, self._held = told, ""
        return shown

    def _repeats(self, text: str) -> bool:
        return bool(text and self._shown) and (self._shown.startswith(text) or text.startswith(self._shown))

    def _pause(self, timestamp: str) -> float:
        try:
            now = datetime.fromisoformat(timestamp)
        except ValueError:
            return 0.0
        before, self._last = self._last, now
        return (now - before).total_seconds() if before else 0.0
