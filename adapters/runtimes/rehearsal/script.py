"""The rehearsal agent: a real process without a model, which plays a scripted turn over `specs/jsonl-protocol.md`.

Standard library only and nothing of this project, so that it runs as `python -I script.py` and starts fast. Words in
the prompt direct the play; `specs/jsonl-protocol.md` lists them. It remembers its conversation in `~/.rehearsal.json`.
"""

import json
import os
import re
import select
import sys
import time
from collections import deque
from typing import Any, NoReturn

DIRECTIVE = re.compile(r"\b(?:(N|D|BIG|FAIL|SLEEPTOOL)=([\w.]+)|(HANG|CRASH|ASK|TOOLFAIL|GARBAGE|ORPHAN)\b)")
GARBAGE = (b"not JSON at all", b"[1,2,3]", b'{"type":"surprise","value":1}', b'{"type":"chunk","text":5}', b"\xff\xfe{")
GO_ON = "Go on where you stopped"  # a prompt that says so takes up the turn that was cut off
QUOTED = 400  # characters of a prompt that are said back
JOURNAL = os.path.expanduser("~/.rehearsal.json")


class Interrupted(Exception):
    """The gateway asked to stop this turn."""


def say(type: str, **body: Any) -> None:
    write(json.dumps({"type": type, **body}, separators=(",", ":")).encode())


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


class Stdin:
    """Lines of stdin, read without ever blocking longer than asked."""

    def __init__(self) -> None:
        self.open = True
        self._lines: deque[bytes] = deque()
        self._rest = b""

    def next(self, seconds: float | None) -> dict[str, Any] | None:
        """The next message, or None when `seconds` passed (None: no limit) or stdin was closed."""
        if not self._lines and self.open and select.select([0], [], [], seconds)[0]:
            data = os.read(0, 1 << 20)
            self.open = bool(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(filter(None, lines))
        return json.loads(self._lines.popleft()) if self._lines else None


class Play:
    """One turn."""

    def __init__(self, stdin: Stdin, turn: dict[str, Any], waiting: deque[dict[str, Any]]) -> None:
        self.stdin, self.waiting = stdin, waiting
        self.prompt = str(turn.get("prompt") or "")
        self.journal = load(turn.get("session"))
        if "open" in self.journal and GO_ON in self.prompt:
            self.prompt = self.journal["open"]
        self.directives = {key or word: value for key, value, word in DIRECTIVE.findall(self.prompt)}

    def run(self) -> None:
        self.keep(open=self.prompt)
        say("session", id=self.journal["session"])
        try:
            self.act()
        except Interrupted:
            self.end("canceled")

    def act(self) -> None:
        if "ORPHAN" in self.directives:
            leave_orphan()
        self.talk()
        if "HANG" in self.directives:
            hang()
        if "N" not in self.directives or {"TOOLFAIL", "SLEEPTOOL"} & set(self.directives):
            self.use_tool()
        say("usage", input_tokens=len(self.prompt.split()), output_tokens=1)
        if "FAIL" in self.directives:
            self.end("failed", error={"category": self.directives["FAIL"], "text": "a rehearsed failure"})
        elif "ASK" in self.directives:
            say("ask", question="Shall I go on?")
            self.end("needs_input")
        else:
            self.end("completed")

    def talk(self) -> None:
        say("thinking", text="Reading the script.")
        chunks = self.chunks()
        for number, text in enumerate(chunks):
            if "CRASH" in self.directives and number >= len(chunks) // 2:
                os._exit(3)
            say("chunk", text=text)
            self.wait(float(self.directives.get("D", 0)) / 1e6)
        for line in GARBAGE if "GARBAGE" in self.directives else ():
            write(line)

    def chunks(self) -> list[str]:
        before = [f"Turn {self.journal['turns'] + 1}. Before this you said: {self.journal['prompt']}\n"]
        opening = before if self.journal["turns"] else []
        if "BIG" in self.directives:
            return [*opening, "x" * int(self.directives["BIG"])]
        if "N" in self.directives:
            return [*opening, *(f"word{number} " for number in range(int(self.directives["N"])))]
        return [*opening, "You said: ", *re.findall(r"\s*\S+\s*", self.prompt[:QUOTED]), "\n"]

    def use_tool(self) -> None:
        command = "echo rehearsal"
        if "TOOLFAIL" in self.directives:
            command = "echo rehearsal; exit 7"
        elif "SLEEPTOOL" in self.directives:
            command = f"sleep {self.directives['SLEEPTOOL']}; echo rehearsal"
        say("tool_start", call_id="t1", tool="shell", input={"command": command})
        output, code = self.shell(command)
        say("tool_result", call_id="t1", output=output, is_error=code != 0, exit_code=code)
        say("chunk", text=f"The command said: {output}" if code == 0 else f"The command failed with exit code {code}.\n")

    def shell(self, command: str) -> tuple[str, int]:
        import subprocess

        tool = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while tool.poll() is None:
                self.wait(0.01)
        except Interrupted:
            os.killpg(tool.pid, 9)
            tool.wait()
            raise
        return tool.communicate()[0].decode("utf-8", "replace"), tool.returncode

    def wait(self, seconds: float) -> None:
        """Let time pass, answering what the gateway writes meanwhile."""
        end = time.monotonic() + seconds
        while (message := self.stdin.next(max(0.0, end - time.monotonic()))) is not None:
            self.hear(message)
        if not self.stdin.open:
            time.sleep(max(0.0, end - time.monotonic()))

    def hear(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "interrupt":
                raise Interrupted
            case "steer":
                say("steered", id=str(message.get("id") or ""))
                say("chunk", text=f"You added: {message.get('text')}\n")
            case "turn":
                self.waiting.append(message)

    def end(self, reason: str, **more: Any) -> None:
        self.journal.pop("open", None)
        self.keep(turns=self.journal["turns"] + 1, prompt=self.prompt[:QUOTED])
        say("done", yield_reason=reason, **more)

    def keep(self, **what: Any) -> None:
        self.journal |= what
        with open(f"{JOURNAL}.new", "w", encoding="utf-8") as file:
            json.dump(self.journal, file)
        os.replace(f"{JOURNAL}.new", JOURNAL)


def load(session: str | None) -> dict[str, Any]:
    """What the journal knows of `session`; a new conversation where it knows nothing."""
    try:
        with open(JOURNAL, encoding="utf-8") as file:
            journal: dict[str, Any] = json.load(file)
        if session == journal["session"]:
            return journal
    except (OSError, ValueError, KeyError):
        pass
    return {"session": session or os.urandom(8).hex(), "turns": 0, "prompt": ""}


def leave_orphan() -> None:
    """A child in a session of its own that outlives this process unless somebody collects it."""
    import subprocess

    null = subprocess.DEVNULL
    orphan = subprocess.Popen(["sleep", "600"], stdin=null, stdout=null, stderr=null, start_new_session=True)
    say("notice", kind="orphan", text=str(orphan.pid))


def hang() -> NoReturn:
    while True:
        time.sleep(3600)


def main() -> None:
    stdin, waiting = Stdin(), deque[dict[str, Any]]()
    while waiting or stdin.open:
        message = waiting.popleft() if waiting else stdin.next(None)
        if message is not None and message.get("type") == "turn":
            Play(stdin, message, waiting).run()


if __name__ == "__main__":
    main()
