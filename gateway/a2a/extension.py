"""Extensions a caller can activate (spec v1.0, section 4.6): asked for and told back in the header `A2A-Extensions`.

There is one: tool events told to machines (specs/tool-events.md). What is asked for and not known here is ignored. 0.3
clients call the header `X-A2A-Extensions`; gRPC has either as metadata.
"""

from __future__ import annotations

from collections.abc import Iterable

TOOL_EVENTS = "https://switchboard.dev/extensions/tool-events/v1"
KNOWN = (TOOL_EVENTS,)
HEADERS = ("A2A-Extensions", "X-A2A-Extensions")


def activated(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What a request activates, by the header that asked for it: what the answer tells back. Names in any case."""
    found: dict[str, str] = {}
    for name in HEADERS:
        asked = {uri.strip() for key, value in headers if key.lower() == name.lower() for uri in value.split(",")}
        if known := [uri for uri in KNOWN if uri in asked]:
            found[name] = ", ".join(known)
    return found
