"""What the kit's model says, in the words of each API that models are asked by. A voice does no I/O.

reads a request     -> Heard: the conversation, the tools, how the answer is to come
words a Reply       -> one object, or events with the pauses between them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Json = dict[str, Any]
Piece = Json | str | float  # an event, an event that is no JSON, seconds in which nothing comes
CALL_ID = "call_kit"
USED_IN, USED_OUT = 10, 5  # tokens


@dataclass(frozen=True, slots=True)
class Tool:
    """One the image offers its model."""

    name: str
    schema: Json


class Said(NamedTuple):
    """A piece of the conversation, as JSON. `who`: other is a tool's result, or the system's."""

    who: Literal["user", "model", "other"]
    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """`come`: the answer whole, as Server-Sent Events, or as the items of a JSON array. `items` are the voice's own."""

    said: Sequence[Said]
    tools: Sequence[Tool]
    come: Literal["whole", "events", "array"]
    items: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """`call`: {name, input}. `pause`: seconds after each piece of the text."""

    text: Sequence[str]
    call: Json | None = None
    pause: float = 0.0

    @property
    def whole(self) -> str:
        return "".join(self.text)


@dataclass
class Refused(Exception):
    """What cannot be answered, as the API says so."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)


class Voice(Protocol):
    @property
    def path(self) -> str:
        """Where it is asked, below any base URL; `{name}` is one segment."""

    def hear(self, body: Json, name: str, query: Mapping[str, str]) -> Heard:
        """Raises Refused."""

    def whole(self, heard: Heard, reply: Reply) -> Json: ...

    def pieces(self, heard: Heard, reply: Reply) -> Iterator[Piece]: ...


def spoken(reply: Reply) -> Iterator[str | float]:
    """The text as it comes."""
    for text in reply.text:
        yield text
        yield float(reply.pause)
