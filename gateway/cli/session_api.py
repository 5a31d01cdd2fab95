"""The session API, as the command sees it: one request at a time, and a log that is followed however often it breaks.

An answer that says the gateway is away, or a connection that breaks, leads to another try with the last `seq` that came;
nothing is sent twice but under one idempotency key. A stream of events that ends is asked for again as well: what the
gateway answers then says why it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx2

from gateway.cli import wire
from gateway.cli.caller import PAUSES, SILENCE_SECONDS
from gateway.cli.connection import find_token, find_url
from gateway.errors import OutcomeUnknown, SwitchboardError, Unavailable

READ_SECONDS = 60.0
NOTHING_MORE = 204  # instead of a stream: the session is archived, and all of it was told
_NOT_NOW = (Unavailable.code, OutcomeUnknown.code)
PATH = "/v1/sessions"
Event = dict[str, Any]


def _unheard(text: str) -> None:
    pass


class SessionApi:
    """`say`: to whoever waits, while the gateway is away; `pauses`: between the tries of a message."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        say: Callable[[str], None] = _unheard,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._say, self._pauses = say, pauses
        self.url = find_url(url)
        self.token = find_token(token, self.url)

    def get(self, *place: str, **params: Any) -> Any:
        """`place`: a session's id, and what of it."""
        return self._ask("GET", place, None, {name: value for name, value in params.items() if value is not None})

    def post(self, *place: str, body: Any = None) -> Any:
        return self._ask("POST", place, body, {})

    def send(self, id: str, input: Any, mode: str, key: str | None = None) -> Any:
        """A message."""
        body = {"input": input, "mode": mode, "idempotency_key": key or str(uuid4())}
        return self._once(f'switchboard sessions send {id} "…"', body, id, "messages")

    def create(self, body: Mapping[str, Any]) -> Any:
        """A session, with its first message."""
        return self._once("switchboard sessions create …", {"idempotency_key": str(uuid4()), **body})

    def _once(self, command: str, body: Mapping[str, Any], *place: str) -> Any:
        """Tried again under one key, since nobody knows whether it arrived, for as long as a restart takes."""
        tries = 0
        while True:
            try:
                return self.post(*place, body=body)
            except SwitchboardError as exc:
                if exc.code not in _NOT_NOW:
                    raise
                if tries == len(self._pauses):
                    said = f"{exc.message} Whether the message arrived is not known."
                    again = f"{command} --idempotency-key {body['idempotency_key']}"
                    raise Unavailable(said, f"This sends it, unless it did: {again}") from exc
            if tries == 1:
                self._say("The gateway is not available now. The message is sent again until it is, and arrives once.")
            time.sleep(self._pauses[tries])
            tries += 1

    def address(self, *place: str) -> str:
        return "/".join([f"{self.url.value}{PATH}", *(quote(part, safe="") for part in place)])

    def _ask(self, method: str, place: Sequence[str], body: Any, params: Mapping[str, Any]) -> Any:
        url = self.address(*place)
        with wire.reaching(self.url), wire.open_client(self.url, self.headers, READ_SECONDS) as client:
            response = client.request(method, url, json=body, params=dict(params))
        if response.is_success:
            return response.json() if response.content else None
        raise self.refusal(response)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.value}"} if self.token else {}

    def refusal(self, response: httpx2.Response) -> SwitchboardError:
        try:
            body = response.json()
        except ValueError:
            body = None
        found = wire.refusal(body, response)
        if found.code == "not_allowed":
            said = f"The one from {self.token.source} was not accepted." if self.token else "Pass --token or SWITCHBOARD_TOKEN."
            found.hint = f"{said} An owner makes a key with: switchboard callers add NAME"
        if found.code == "not_found":
            found.hint = found.hint or "Callers see their own; an owner reads any with: switchboard sessions events ID --follow"
        return found


class Follow:
    """The events of a session after `cursor`, which goes along; ends with the session, or, not `live`, with its log."""

    def __init__(
        self,
        api: SessionApi,
        id: str,
        cursor: int = 0,
        *,
        level: str | None = None,
        types: str | None = None,
        live: bool = True,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.api, self.id, self.cursor, self.live = api, id, cursor, live
        self._filter = {name: value for name, value in (("level", level), ("types", types)) if value is not None}
        self._pauses = pauses
        self._tries = 0  # since something came
        self._over = False

    def __iter__(self) -> Iterator[Event]:
        with wire.reaching(self.api.url):
            while True:
                why: Exception | None = None
                try:
                    yield from self._stream()
                except httpx2.TransportError as exc:
                    why = exc
                except SwitchboardError as exc:
                    if exc.code != "unavailable":
                        raise
                    why = exc
                if self._over:
                    return
                self._pause(self._tries, why)
                self._tries += 1

    def look(self) -> Any:
        """The session itself, asked for as patiently."""
        tries = 0
        while True:
            try:
                return self.api.get(self.id)
            except SwitchboardError as exc:
                if exc.code != "unavailable":
                    raise
                self._pause(tries, exc)
            tries += 1

    def _stream(self) -> Iterator[Event]:
        url = self.api.address(self.id, "events" if self.live else "log")
        headers = {**self.api.headers, "Accept": "application/x-ndjson"}
        params: dict[str, str] = {"after": str(self.cursor), **self._filter}
        with (
            wire.open_client(self.api.url, headers, SILENCE_SECONDS) as client,
            client.stream("GET", url, params=params) as response,
        ):
            if not response.is_success:
                response.read()
                raise self.api.refusal(response)
            for line in response.iter_lines():
                self._tries = 0
                if line:
                    event: Event = json.loads(line)
                    self.cursor = event["seq"]
                    yield event
            self._over = not self.live or response.status_code == NOTHING_MORE

    def _pause(self, tries: int, why: Exception | None) -> None:
        if tries == len(self._pauses):
            said = f"The connection to {self.api.url.value} broke and could not be taken up again in {tries} tries."
            raise Unavailable(said, f"Go on with: switchboard sessions attach {self.id} --after {self.cursor}") from why
        time.sleep(self._pauses[tries])
