"""What the processes on one database tell one another right after a commit, so that nobody has to wait for a poll.

    log:SESSION@SEQ.SUB   a session's log reaches so far: its readers here have something to read
    work@                 a turn waits
    asked@                something is asked of a turn that runs

A hint may get lost, or say only that something was missed. Then everything is looked at, which polls do anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.log.rows import Batch, Position
from gateway.log.store import Log
from gateway.turns.engine import ASKED, WORK, Engine

_LOG = "log:"


class Hints:
    def __init__(self, log: Log, engine: Engine) -> None:
        self._log, self._engine = log, engine
        log.after.append(self._tell)
        log.database.hear(self._hear)

    def _tell(self, batch: Batch) -> None:
        self._log.database.tell(f"{_LOG}{batch.session_id}", str(batch.after))

    def _hear(self, words: Sequence[str]) -> None:
        for word in words or (f"{WORK}@", f"{ASKED}@"):
            topic, _, detail = word.rpartition("@")
            if topic == WORK:
                self._engine.worker.wake()
            elif topic == ASKED:
                self._engine.worker.attend()
            elif topic.startswith(_LOG):
                self._log.hub.reaches(topic.removeprefix(_LOG), Position.parse(detail))
        if not words:
            self._log.look()
