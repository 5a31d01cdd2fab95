"""What of the model's running message was already said: deltas first, the whole message after them.

The CLI prints a text as deltas and then once more as a whole `assistant` line of the same message id; a retry after a
broken stream comes as a whole message of another id, without deltas. Text that callers have read cannot be taken back,
so an answer that begins anew is shown like this: while it repeats the broken one word for word nothing is said, and
only what goes beyond it is; where it differs it is said in full, as a new paragraph.
"""

from __future__ import annotations


class Answer:
    """The message being told. `cut` means that its stream began and never ended."""

    def __init__(self) -> None:
        self.cut = False
        self._id: str | None = None
        self._block: list[str] = []  # told of the open content block; pieces, because strings grow in quadratic time
        self._message: list[str] = []  # told of the message's text
        self._broken = ""  # the text of an attempt that broke, as long as the new one repeats it
        self._again = ""  # what the new attempt said of it so far

    def begin(self, id: str | None) -> None:
        """A message begins; if the one before is still open, its stream broke."""
        self._broken = (self._broken or "".join(self._message)) if self.cut else ""
        self._id, self._message, self._block, self._again = id, [], [], ""
        self.cut = True

    def open_block(self) -> None:
        self._block = []

    def end(self) -> None:
        self.cut, self._broken = False, ""

    def delta(self, text: str) -> str:
        """A piece of text. Returns what of it is to be said."""
        self._block.append(text)
        return self._say(text)

    def thought(self, text: str) -> str:
        self._block.append(text)
        return text

    def whole(self, id: str | None, text: str) -> str:
        """A whole block of text. Returns what of it was not yet said."""
        rest = self._rest(id, text)
        return self._say(rest) if rest else ""

    def whole_thought(self, id: str | None, text: str) -> str:
        return self._rest(id, text)

    def _rest(self, id: str | None, text: str) -> str:
        if id != self._id:
            self.begin(id)
            self.cut = False  # it came whole: there is no stream that could break
        told, self._block = "".join(self._block), []
        if not told:
            return text
        return text[len(told) :] if text.startswith(told) else ""

    def _say(self, text: str) -> str:
        self._message.append(text)
        if not self._broken:
            return text
        self._again += text
        if self._broken.startswith(self._again):
            return ""
        broken, self._broken = self._broken, ""
        return self._again[len(broken) :] if self._again.startswith(broken) else "\n\n" + self._again
