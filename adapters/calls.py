"""A tool call and its result in canonical words: what every runtime's table of tools answers."""

from __future__ import annotations

from typing import Any, NamedTuple


class Named(NamedTuple):
    """A call. `vendor` is the runtime's own name for it where the canonical one says less, for the owner."""

    tool: str
    input: dict[str, Any]
    vendor: str = ""


class Result(NamedTuple):
    """What a finished call gave. `detail` is the runtime's own prose where `output` had to be cleaned of it."""

    output: str
    is_error: bool = False
    exit_code: int | None = None
    truncated: bool = False
    detail: str = ""
