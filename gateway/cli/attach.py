"""`switchboard sessions attach`: a session in the terminal. Its events as they come, lines typed as messages to it.

The main thread reads the session, because Ctrl-C comes to it; another reads the terminal. Where standard input is no
terminal its lines are sent first, and the command ends when the session rests.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from gateway.cli.interrupt import CtrlC
from gateway.cli.output import Output
from gateway.cli.session_api import Follow, SessionApi
from gateway.cli.transcript import Transcript, exit_of
from gateway.errors import SwitchboardError

CTRL_C = 130
HELP = "A line is a message. /steer TEXT joins what runs, /interrupt ends it, /quit or Ctrl-D detaches; Ctrl-C interrupts."
_REST = ("idle", "awaiting_input", "failed", "archived")


class Attached:
    def __init__(self, out: Output, api: SessionApi, id: str, after: int) -> None:
        self.out, self.api, self.id = out, api, id
        self.transcript = Transcript(out, own=not os.isatty(0))
        self.follow = Follow(api, id, after)
        self._asking = os.isatty(0)
        self._detached = False
        self._pressed = False  # Ctrl-C, and nothing has begun since

    def run(self) -> int:
        if self._asking:
            self.out.say(HELP)
            threading.Thread(target=self._listen, daemon=True).start()
        else:
            for line in sys.stdin:
                self._obey(line)
        ctrl_c = CtrlC()
        while True:
            try:
                with ctrl_c.watched():
                    return self._show(ctrl_c)
            except KeyboardInterrupt:
                if self._detached or not self._interrupt():
                    self.transcript.finish()
                    self.out.say(
                        f"Detached. Come back with: switchboard sessions attach {self.id} --after {self.follow.cursor}"
                    )
                    return 0 if self._detached else CTRL_C

    def _show(self, ctrl_c: CtrlC) -> int:
        """Everything, until the session ends, or rests where nobody can say more."""
        try:
            for event in () if self._over() else self.follow:
                with ctrl_c.held_off():
                    self.transcript.take(event)
                    self._pressed = self._pressed and event["type"] != "turn_started"
                if event["type"] in ("done", "system") and self._over():
                    break
        except SwitchboardError:
            self.transcript.finish()
            raise
        self.transcript.finish()
        return exit_of(self.transcript.reason)

    def _over(self) -> bool:
        """Whether all is told of a session that rests, and nobody is there to say more."""
        if self._asking:
            return False
        session = self.follow.look()
        return session["status"] in _REST and self.follow.cursor >= session["seq"]

    def _interrupt(self) -> bool:
        """Whether to go on: the second Ctrl-C in a row detaches."""
        if self._pressed:
            return False
        self._pressed = True
        self._try("/interrupt")
        self.out.say("Press Ctrl-C again to detach.")
        return True

    # -- what is typed

    def _listen(self) -> None:
        for line in sys.stdin:
            self._try(line)
            if self._detached:
                break
        self._detached = True
        os.kill(os.getpid(), signal.SIGINT)

    def _try(self, line: str) -> None:
        try:
            self._obey(line)
        except SwitchboardError as exc:
            self.out.error(exc)

    def _obey(self, line: str) -> None:
        command, _, rest = line.strip().partition(" ")
        match command:
            case "":
                pass
            case "/steer":
                self.api.send(self.id, rest, "steer")
            case "/interrupt":
                self.api.post(self.id, "interrupt")
            case "/quit":
                self._detached = True
            case command if command.startswith("/") and "/" not in command[1:]:
                self.out.say(HELP)
            case _:
                self._pressed = False
                self.api.send(self.id, line.rstrip("\n"), "auto")
