"""An image at work on one attempt of a turn, as the runner sees a process: lines out of it, lines into it, its end.

Its lines are what it posts to the runtime API, and what it printed; lines to it are what the API tells it. So the
translation, the limits and the log are those of every runtime.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
import structlog

from adapters.launch.lines import Line
from adapters.launch.process import Exited, LaunchError
from gateway.auth.turn_tokens import Holder
from gateway.errors import Fenced, SwitchboardError, TurnEnded, TurnSuperseded
from gateway.runtime_api import appended
from gateway.runtime_api.shapes import VERSION, Alive, Appended, Cancel, Control, Posted, Steer, TurnInput
from gateway.turns.launching import Place
from gateway.turns.leases import Claimed
from gateway.turns.pending import Pending
from gateway.turns.receipts import Receipt, Write
from gateway.turns.spec import AgentSpec

Json = dict[str, Any]

PRINTED_LINE = 2000  # characters of a printed line that are kept
PRINTED = 64 * 1024  # characters of all that an attempt prints
BEAT_SECONDS = 0.05  # heartbeats that come faster are one
AT_ONCE = 4
ENDS = ("done", "message")

log_ = structlog.get_logger("switchboard.runtime_api")


class Body(Protocol):
    """What an image runs in: a container."""

    async def lines(self) -> list[Line]: ...

    async def wait(self) -> Exited: ...

    async def stop(self, *, grace: float = ...) -> Exited: ...

    async def aclose(self) -> None: ...

    def stderr_tail(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Work:
    """What an image is started for."""

    turn: Claimed
    spec: AgentSpec
    place: Place
    deadline_ms: int
    variables: Mapping[str, str] = field(default_factory=dict)  # the agent's own
    provider: str | None = None

    @property
    def holder(self) -> Holder:
        return Holder(self.turn.id, self.turn.fence, self.turn.attempt)


class Brain:
    """`turn`, `spec`, `place` and `say` are for whoever acts for the image, such as its sandbox."""

    def __init__(self, work: Work, before: appended.Before) -> None:
        self.work, self.turn, self.spec, self.place = work, work.turn, work.spec, work.place
        self.holder, self.read_cursor, self._cursor = work.holder, before.read_cursor, before.cursor
        self.news = anyio.Event()  # something is asked of it that it was not told yet
        self._seen: dict[str, tuple[str, Receipt | None]] = {id: (type, None) for id, type in before.ids.items()}
        self._lines = Pending[Line]()
        self._body: Body | None = None
        self._input: Json = {}
        self._told = anyio.Event()
        self._gone = anyio.Event()  # its container has ended
        self._canceled = False
        self._steers: dict[str, str] = {}
        self._untold = False
        self._open: set[Receipt] = set()
        self.gone: Callable[[], None] = lambda: None  # called when it is closed
        self._alive_at = 0.0
        self.room = anyio.Semaphore(AT_ONCE)  # for bodies of requests
        self._last_said = False  # its done is on its way
        self._over: SwitchboardError | None = None

    # -- what the runner uses

    async def write(self, data: bytes) -> None:
        for line in data.splitlines():
            message = json.loads(line)
            match message["type"]:
                case "turn":
                    self._input = message
                    self._told.set()
                case "steer":
                    self._steers[message["id"]] = message["text"]
                    self._wake()
                case "interrupt":
                    self._canceled = True
                    self._wake()

    async def close_stdin(self) -> None:
        """It has none."""

    async def lines(self) -> list[Line]:
        return await self._lines.take()

    def stderr_tail(self) -> str:
        return self._body.stderr_tail() if self._body else ""

    @property
    def has_ended(self) -> bool:
        return self._over is not None

    async def wait(self) -> Exited:
        assert self._body is not None
        return await self._body.wait()

    async def stop(self, *, grace: float = 2.0) -> Exited:
        """From now on it appends nothing. One that has ended a canceled turn itself may go by itself."""
        self.end(TurnEnded("The turn has ended.", "Exit."))
        if self._canceled and self._last_said:
            with anyio.move_on_after(grace):
                await self._gone.wait()
        assert self._body is not None
        return await self._body.stop(grace=grace)

    async def aclose(self) -> None:
        self.end(TurnEnded("The turn has ended.", "Exit."))
        self.gone()
        if self._body is not None:
            await self._body.aclose()

    # -- its container

    def take(self, body: Body) -> None:
        self._body = body

    async def attend(self) -> None:
        """Read what it prints until it has ended; then there are no more lines."""
        body, room = self._body, PRINTED
        assert body is not None
        try:
            while lines := await body.lines():
                for line in lines:
                    room = self._printed("stdout", line.data.decode("utf-8", "replace"), room)
                await self._lines.room()
            exited = await body.wait()
            if exited.code == 0:  # else it stands in the error
                for text in body.stderr_tail().splitlines():
                    room = self._printed("stderr", text, room)
        except LaunchError as exc:
            log_.error("image_lost", turn=self.turn.id, error=str(exc))
        finally:
            self._lines.close()
            self._gone.set()

    def _printed(self, stream: str, text: str, room: int) -> int:
        text = text[: min(PRINTED_LINE, room)]
        if text.strip():
            self._lines.add([_line({"type": "printed", "stream": stream, "text": text})])
        return room - len(text)

    # -- what the API uses

    async def input(self) -> TurnInput:
        """What the turn is to do, once the runner has said so."""
        await self._told.wait()
        self.check()
        given = self._input
        shared = {name: given[name] for name in ("prompt", "parts", "message_id", "metadata", "references", "system_prompt")}
        return TurnInput(
            contract=VERSION,
            session_id=self.turn.session_id,
            task_id=self.turn.task_id,
            turn_id=self.turn.id,
            attempt=self.turn.attempt,
            read_cursor=self.read_cursor,
            deadline_ms=self.work.deadline_ms,
            provider=self.work.provider,
            model=given["model"],
            variables=dict(self.work.variables),
            mcp_servers=given["mcp_servers"],
            **shared,
        )

    def came(self) -> None:
        """It has made a request."""
        if not self._alive_at:
            self._live()

    def _live(self) -> None:
        if time.monotonic() > self._alive_at + BEAT_SECONDS:
            self._alive_at = time.monotonic()
            self._lines.add([_line({"type": "alive"})])

    def beat(self) -> Alive:
        self._live()
        return Alive(deadline_ms=self.work.deadline_ms, control=self.control())

    @property
    def has_news(self) -> bool:
        return self._untold

    def control(self) -> Control:
        """All that is asked of it and not answered; from now on it is told."""
        self._untold = False
        steers = [Steer(type="steer", id=id, text=text) for id, text in self._steers.items()]
        return [*steers, *([Cancel(type="cancel")] if self._canceled else [])]

    async def post(self, events: Sequence[Posted]) -> Appended:
        """Append events, each id once. Raises TurnEnded, TurnSuperseded, Unavailable."""
        new = [event for event in events if event.id not in self._seen]
        earlier = [self._seen[event.id] for event in events if event.id in self._seen]
        lines = [_line({"type": "asked"}) for type, _ in earlier if type == "ask"]
        if new:
            types: dict[str, str] = {event.id: event.type for event in new}  # type: ignore[attr-defined]
            receipt = self._receipt(lambda conn: appended.add(conn, self.turn, types))
            self._seen |= {id: (type, receipt) for id, type in types.items()}
            lines += [_line(_said(event)) for event in new]
            self._last_said = any(type in ENDS for type in types.values())
            self._lines.add([*lines[:-1], lines[-1]._replace(receipt=receipt)])
            await self._durable(receipt)
            for event in new:
                self._steers.pop(getattr(event, "steer", ""), None)
        elif lines:
            self._lines.add(lines)
        for _, pending in earlier:
            if pending is not None:
                await self._durable(pending)
        return Appended(accepted=len(new), duplicates=len(events) - len(new), cursor=self._cursor)

    async def say(self, line: Mapping[str, Any], write: Write | None = None) -> None:
        """Have a line of the JSON-lines protocol told as the image's. Returns when its events are durable.

        `write` joins their transaction; it raises nothing but what the database does. Raises as `post`.
        """
        receipt = self._receipt(write)
        self._lines.add([_line(line)._replace(receipt=receipt)])
        await self._durable(receipt)

    def end(self, why: SwitchboardError) -> None:
        """Whatever it still says is refused."""
        if self._over is None:
            self._over = why
            for receipt in self._open:
                receipt.fail(why)
            self._open.clear()
            self._told.set()
            self._wake()

    def check(self) -> None:
        """Raises TurnEnded or TurnSuperseded where it may ask for nothing any more."""
        if self._over is not None:
            raise self._over

    # --

    def _receipt(self, write: Write | None) -> Receipt:
        self.check()
        if self._last_said:
            raise TurnEnded("The turn has ended with its done.", "Exit.")
        receipt = Receipt(write)
        self._open.add(receipt)
        return receipt

    async def _durable(self, receipt: Receipt) -> None:
        try:
            self._cursor = max(self._cursor, await receipt.wait())
        except Fenced as exc:
            self.end(superseded())
            raise superseded() from exc
        finally:
            self._open.discard(receipt)

    def _wake(self) -> None:
        self._untold = True
        self.news.set()
        self.news = anyio.Event()


def superseded() -> TurnSuperseded:
    return TurnSuperseded("Another attempt has the turn, or it is over.", "Exit: nothing you do counts.")


def _said(event: Posted) -> Json:
    """As a line of the JSON-lines protocol."""
    line = event.model_dump(exclude={"id"}, exclude_unset=True)
    if "steer" in line:
        line["id"] = line.pop("steer")
    return line


def _line(message: Mapping[str, Any]) -> Line:
    return Line(json.dumps(message, separators=(",", ":")).encode())


def deadline_in(seconds: float) -> int:
    """Milliseconds since 1970."""
    return int((time.time() + seconds) * 1000)
