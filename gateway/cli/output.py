"""Where a command writes: the result to stdout, talk to stderr, colour only on a terminal.

What agents and callers wrote is shown without its control characters on a terminal, so that no answer and no title can
move the cursor or change the window; a pipe gets the exact text.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size
from typing import Any, TextIO
from unicodedata import east_asian_width

from gateway.errors import SwitchboardError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _BOLD, _RED, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"


def prepare(stream: TextIO) -> None:
    """A character the stream cannot write becomes an escape instead of an exception."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def terminal_text(stream: TextIO, text: str) -> str:
    return _CONTROL.sub("", text) if stream.isatty() else text


def coloured(stream: TextIO) -> bool:
    """https://no-color.org: any value but the empty one turns colour off."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def one_line(value: Any) -> str:
    """A value as it stands in a table: one line, no control characters."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, dict)):
        value = json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub("", " ".join(str(value).split()))


def when(time: Any) -> str:
    """An ISO 8601 time to the second."""
    return re.sub(r"\.\d+", "", str(time)).replace("+00:00", "Z") if time else "-"


class Output:
    """`json` is set by `--json`; it then holds for results, streams and errors alike."""

    def __init__(self) -> None:
        self.json = False

    def data(self, value: Any) -> None:
        print(json.dumps(value, ensure_ascii=False, indent=2), flush=True)

    def line(self, value: Any) -> None:
        """One line of a JSON Lines stream."""
        print(json.dumps(value, ensure_ascii=False), flush=True)

    def text(self, text: str) -> None:
        """A piece of an answer, as it comes."""
        sys.stdout.write(terminal_text(sys.stdout, text))
        sys.stdout.flush()

    def done(self, text: str, *following: str) -> None:
        """What changed, then the commands that come next."""
        print(terminal_text(sys.stdout, text), flush=True)
        for command in following:
            self.say(f"Next: {command}")

    def say(self, text: str) -> None:
        text = terminal_text(sys.stderr, text)
        print(f"{_DIM}{text}{_PLAIN}" if coloured(sys.stderr) else text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        print(terminal_text(sys.stderr, f"Warning: {text}"), file=sys.stderr, flush=True)

    def error(self, error: SwitchboardError) -> None:
        if self.json:
            print(json.dumps(error.to_json(), ensure_ascii=False), file=sys.stderr, flush=True)
            return
        text = terminal_text(sys.stderr, " ".join(filter(None, (error.message, error.hint))))
        label = f"{_RED}Error:{_PLAIN}" if coloured(sys.stderr) else "Error:"
        print(label, text, file=sys.stderr, flush=True)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        lines = [list(headers), *([one_line(value) for value in row] for row in rows)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        room = get_terminal_size().columns if sys.stdout.isatty() else None
        for number, line in enumerate(lines):
            text = "  ".join(map(_pad, line, widths)).rstrip()
            text = text if room is None or _width(text) <= room else _cut(text, room)
            print(f"{_BOLD}{text}{_PLAIN}" if number == 0 and coloured(sys.stdout) else text)


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, room: int) -> str:
    while _width(text) > room - 1:
        text = text[:-1]
    return text + "…"
