"""Reading a session's log: Server-Sent Events, JSON Lines, pages that may wait, and the whole log as a file.

A cursor is a `seq`; `Last-Event-ID` says it where there is one, else `after`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from sse_starlette.sse import EventSourceResponse
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse

from gateway.errors import InvalidParams
from gateway.log.rows import Position
from gateway.log.store import Log
from gateway.log.tail import tail
from gateway.sessions.access import Access
from gateway.sessions.border import NO_STORE
from gateway.sessions.frames import NDJSON, SSE, Filter, Framing, Teller, Told, closes
from gateway.sessions.shapes import ReadEvents, ReadLog
from gateway.sessions.views import Seen, goes_on

PING_SECONDS = 15


async def events(
    teller: Teller, access: Access, seen: Seen, request: Request, asked: ReadEvents, send_timeout: float
) -> Response:
    """A page of JSON, or a stream where one is accepted."""
    after, wanted = cursor(request, seen, asked.after), Filter.of(asked)
    framing = _framing(request.headers.get("accept", ""))
    if framing is None:
        return await _page(teller, seen, after, asked, wanted)
    if seen.status == "archived" and not await _goes_on(teller.log, seen, after, wanted):
        return Response(status_code=204, headers=NO_STORE)  # tells an EventSource not to come again
    return stream(teller.live(seen.id, after, framing, wanted, access), framing, send_timeout)


async def _goes_on(log: Log, seen: Seen, after: int, wanted: Filter) -> bool:
    return await log.database.read(lambda conn: goes_on(conn, seen.id, after, wanted.levels, wanted.types))


def download(teller: Teller, seen: Seen, request: Request, asked: ReadLog) -> Response:
    after = cursor(request, seen, asked.after)
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="{seen.id}.jsonl"'}
    return StreamingResponse(teller.whole(seen.id, after, Filter.of(asked)), 200, headers, NDJSON.media_type)


def stream(content: AsyncIterator[bytes], framing: Framing, send_timeout: float) -> EventSourceResponse:
    """Who reads nothing for `send_timeout` seconds is cut off."""
    return EventSourceResponse(
        content,
        headers=NO_STORE,
        media_type=framing.media_type,
        ping=PING_SECONDS,
        ping_message_factory=lambda: framing.ping,  # type: ignore[arg-type, return-value]  # bytes are sent as they are
        send_timeout=send_timeout,
    )


def cursor(connection: HTTPConnection, seen: Seen, after: int) -> int:
    """Where to go on. Raises InvalidParams for an event there is not yet."""
    last = connection.headers.get("last-event-id", "")
    if last and not (last.isascii() and last.isdigit() and len(last) < 19):
        raise InvalidParams(f"Last-Event-ID {last[:80]!r} is not an id of this log.", "Send the id of the last event.")
    after = int(last) if last else after
    if after > seen.seq:
        raise InvalidParams(f"The cursor {after} is beyond the last event, {seen.seq}.", "Begin with after=0.")
    return after


def _framing(accept: str) -> Framing | None:
    """None for JSON. The one that is named first; quality values are not weighed."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    framings = {framing.media_type: framing for framing in (SSE, NDJSON)}
    return next((framings.get(name) for name in named if name in framings or name == "application/json"), None)


async def _page(teller: Teller, seen: Seen, after: int, asked: ReadEvents, wanted: Filter) -> Response:
    """At most `limit` events; if there are none, those that come within `wait` seconds."""
    found: list[Told] = []
    upto = after
    live = asked.wait > 0 and seen.status != "archived"
    with anyio.move_on_after(asked.wait if live else None):
        async for batch in tail(teller.log, seen.id, Position(after), live=live):
            upto = _take(teller.told(batch), wanted, found, asked.limit, upto)
            if closes(batch) or len(found) == asked.limit or (live and found):
                break
    data = b'{"events":[' + b",".join(event.json for event in found) + b'],"next":%d}' % upto
    return Response(data, 200, NO_STORE, "application/json")


def _take(events: list[Told], wanted: Filter, found: list[Told], limit: int, upto: int) -> int:
    """Add events up to the limit; the `seq` up to which the log was looked at."""
    for event in events:
        if len(found) == limit:
            break
        upto = event.seq
        if wanted.takes(event):
            found.append(event)
    return upto
