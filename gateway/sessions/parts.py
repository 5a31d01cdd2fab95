"""Parts of the session API as A2A parts, pure: what is stored, what history shows, and what every runtime is told.

A context and a mention become text, in plain words that no runtime has a way of its own for; what they were stands in
the part's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.files.intake import Given
from gateway.sessions.shapes import Context, File, Mention, Part

Json = dict[str, Any]
_FENCES = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def given(input: str | Sequence[Part]) -> list[Given]:
    return [Given({"text": input})] if isinstance(input, str) else [_given(part) for part in input]


def _given(part: Part) -> Given:
    match part:
        case Part(file=File() as file):
            return Given(None, file.raw, file.url or "", file.name, file.media_type)
        case Part(context=Context() as context):
            return Given({"text": _context(context), "metadata": {"context": {"path": context.path}}})
        case Part(mention=Mention() as mention):
            return Given({"text": _mention(mention), "metadata": {"mention": mention.model_dump(exclude_none=True)}})
    return Given({"data": part.data} if part.text is None else {"text": part.text})


def _context(context: Context) -> str:
    """The text between fences longer than any of its own."""
    fence = "`" * max((len(found) + 1 for found in _FENCES.findall(context.text)), default=3)
    end = "" if context.text.endswith("\n") or not context.text else "\n"
    return f"From {context.path}:\n{fence}\n{context.text}{end}{fence}"


def _mention(mention: Mention) -> str:
    first, last = mention.start_line, mention.end_line
    if first is None:
        return f"See {mention.path}."
    lines = f"lines {first} to {last}" if last is not None and last > first else f"line {first}"
    return f"See {mention.path}, {lines}."
