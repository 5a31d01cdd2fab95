"""Parts of the session API as A2A parts, pure: what is stored, what history shows, and what every runtime is told.

A context and a mention become text, in plain words that no runtime has a way of its own for; what they were stands in
the part's metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gateway.sessions.shapes import Context, Mention, Part

Json = dict[str, Any]
_FENCES = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def stored(input: str | Sequence[Part]) -> tuple[Json, ...]:
    return ({"text": input},) if isinstance(input, str) else tuple(map(_stored, input))


def _stored(part: Part) -> Json:
    if part.context is not None:
        return {"text": _context(part.context), "metadata": {"context": {"path": part.context.path}}}
    if part.mention is not None:
        return {"text": _mention(part.mention), "metadata": {"mention": part.mention.model_dump(exclude_none=True)}}
    return {"text": part.text} if part.text is not None else {"data": part.data}


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
