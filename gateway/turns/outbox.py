"""Files a turn gives out: what its runtime leaves in `outbox/`, and large bytes it declares as artifacts.

Bytes go into the store, events hold references to them. Small text stands in its event. Of a file up to the inline
limit an event each tells a piece; a larger one is told by one event. What is too large or too much is told to the
owner, and to the caller by an artifact that says so. Machine paths in text files are veiled like all that callers read.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread

from adapters import events as ev
from adapters.events import Event
from gateway.clock import new_id
from gateway.errors import Unavailable
from gateway.files.names import essence, guessed, is_media_type, numbered, safe_name
from gateway.files.refs import STORED, Kept
from gateway.files.store import Store, pieces_of, put
from gateway.settings import Settings
from gateway.turns import folders, marks
from gateway.turns.launching import Place
from gateway.turns.marks import Mark
from gateway.turns.veil import Veil

OUTBOX = "outbox"
PIECE = 64 * 1024  # bytes of a file that one event tells
MAX_TEXT = 32 * 1024  # bytes of a text that stands in its event
MAX_TOLD = 20  # files that were not delivered, each by its name
HEAD = 512
_TEXT_TYPES = ("application/json", "application/xml", "application/yaml", "application/javascript", "image/svg+xml")
Json = dict[str, Any]


class Outbox:
    """Of one turn."""

    def __init__(self, turn_id: str, place: Place, store: Store, settings: Settings) -> None:
        self._turn_id, self._place, self._store, self._settings = turn_id, place, store, settings
        self._before: dict[str, Mark] = {}
        self._files: list[Kept] = []
        self._count, self._bytes = 0, 0
        self._names: set[str] = set()
        self._refused: list[str] = []

    async def begin(self, *, again: bool) -> None:
        """Remember what is there already. `again`: what was there before the turn's first attempt, if that was here."""
        self._before = await anyio.to_thread.run_sync(self._known if again else self._seen)

    def take_files(self) -> list[Kept]:
        """Files whose rows are to be written with the next events."""
        files, self._files = self._files, []
        return files

    async def declared(self, events: list[Event]) -> list[Event]:
        """Events with the large bytes among them stored."""
        if not any(event.type in ("artifact", "done") for event in events):
            return events
        return await anyio.to_thread.run_sync(lambda: [made for event in events for made in self._declared(event)])

    async def finish(self, last: list[Event]) -> list[Event]:
        """A turn's last events, with its files before its `done`."""
        last = await self.declared(last)
        found = await anyio.to_thread.run_sync(self._collected)
        return [*last[:-1], *found, last[-1]]

    async def abandoned(self) -> list[Event]:
        """The files of a turn that nobody runs any more: none where it has not begun here."""
        before = await anyio.to_thread.run_sync(marks.kept, self._folder, self._turn_id)
        if before is None:
            return []
        self._before = before
        return await anyio.to_thread.run_sync(self._collected)

    # -- what the runtime left

    @property
    def _folder(self) -> Path:
        return self._place.home.parent

    def _known(self) -> dict[str, Mark]:
        before = marks.kept(self._folder, self._turn_id)
        return self._seen() if before is None else before

    def _seen(self) -> dict[str, Mark]:
        before = self._marks()
        marks.keep(self._folder, self._turn_id, before)
        return before

    def _marks(self) -> dict[str, Mark]:
        return {path: _mark(file) for path, file in folders.files(self._place.work, OUTBOX)}

    def _collected(self) -> list[Event]:
        events: list[Event] = []
        for path, file in folders.files(self._place.work, OUTBOX):
            if self._before.get(path) != _mark(file):
                events += self._left(self._named(path), file)
        if len(self._refused) > MAX_TOLD:
            events.append(ev.notice("files", f"{len(self._refused)} files were not delivered."))
        return events

    def _named(self, path: str) -> str:
        """The artifact's name: the path within the outbox, plain, and no other file's of this turn."""
        plain, number = "/".join(map(safe_name, path.split("/"))), 1
        while (name := numbered(plain, number)).casefold() in self._names:
            number += 1
        self._names.add(name.casefold())
        return name

    def _left(self, name: str, file: BinaryIO) -> list[Event]:
        size = os.fstat(file.fileno()).st_size
        if why := self._too_much(size):
            return self._not_delivered(name, why)
        head = file.read(HEAD)
        file.seek(0)
        media_type = guessed(name, head)
        return self._kept(name, name, media_type, pieces_of(file, 0, size), {})

    # -- what it declared

    def _declared(self, event: Event) -> list[Event]:
        """The event, or several that tell its parts one after the other where bytes in it were stored."""
        if event.type == "done" and "message" in event.body:
            return [replace(event, body={**event.body, "message": list(map(self._told, event.body["message"]))})]
        if event.type != "artifact":
            return [event]
        name, parts = str(event.body["name"]), list(map(self._told, event.body["parts"]))
        if not any(len(str(part.get("raw", ""))) > PIECE for part in parts):
            return [ev.artifact(name, parts, append=event.body["append"], last=event.body["last"])]
        made = [one for part in parts for one in self._part(name, part)]
        told = [one for one in made if one.type == "artifact"]
        for number, one in enumerate(told):
            one.body["append"] = event.body["append"] if number == 0 else True
            one.body["last"] = event.body["last"] and number == len(told) - 1
        return made

    def _told(self, part: Json) -> Json:
        """A part a runtime made, without a reference to what is stored and without hidden paths in the text of a small file."""
        part = _unforged(part)
        raw = _bytes(part) if len(str(part.get("raw", ""))) <= PIECE else None
        if raw is None or not _is_text(str(part.get("mediaType") or ""), raw):
            return part
        shown = b"".join(veiled(iter([raw]), self._place.shown))
        return part if shown == raw else {**part, "raw": base64.b64encode(shown).decode()}

    def _part(self, name: str, part: Json) -> list[Event]:
        raw = _bytes(part)
        if raw is None or len(raw) <= PIECE // 2:
            return [ev.artifact(name, [part])]
        if why := self._too_much(len(raw)):
            return self._not_delivered(name, why)
        given, said = str(part.get("filename") or name), part.get("mediaType")
        media_type = said if isinstance(said, str) and is_media_type(said) else guessed(given, raw[:HEAD])
        metadata = part.get("metadata")
        return self._kept(name, given, media_type, iter([raw]), metadata if isinstance(metadata, dict) else {})

    # --

    def _too_much(self, size: int) -> str:
        limits = self._settings
        if size > limits.max_file_bytes:
            return f"it has {size} bytes; at most {limits.max_file_bytes} are delivered"
        if self._count >= limits.max_files:
            return f"at most {limits.max_files} files of one turn are delivered"
        if self._bytes + size > limits.max_files_bytes:
            return f"at most {limits.max_files_bytes} bytes of files of one turn are delivered"
        self._count, self._bytes = self._count + 1, self._bytes + size
        return ""

    def _kept(self, name: str, given: str, media_type: str, pieces: Iterator[bytes], metadata: Json) -> list[Event]:
        """Store a file and answer the events that tell it."""
        first = next(pieces, b"")
        pieces = chain([first], pieces)
        if _is_text(media_type, first):
            pieces = veiled(pieces, self._place.shown)
        try:
            content = put(self._store, pieces)
        except (Unavailable, OSError) as exc:
            return self._not_delivered(name, "it could not be stored", str(exc))
        file = Kept(new_id("fil"), safe_name(given, media_type), media_type, content.size, content.sha256)
        about = {"metadata": metadata} if metadata else {}
        text = self._text(file)
        if text is not None:
            told = {"text": text, "filename": file.name, "mediaType": media_type, **about}
            return [ev.artifact(name, [told])]
        self._files.append(file)
        return [
            ev.artifact(name, [{**part, **about}], append=number > 0, last=number == len(parts) - 1)
            for parts in [_parts(file, self._settings.inline_file_bytes)]
            for number, part in enumerate(parts)
        ]

    def _text(self, file: Kept) -> str | None:
        if not essence(file.media_type).startswith("text/") or file.size > MAX_TEXT:
            return None
        with self._store.open(file.sha256) as bytes_:
            try:
                text = bytes_.read().decode()
            except UnicodeDecodeError:
                return None
        return None if "\0" in text else text

    def _not_delivered(self, name: str, why: str, detail: str = "") -> list[Event]:
        self._refused.append(name)
        if len(self._refused) > MAX_TOLD:
            return []
        told = {"text": f"The file {name!r} was not delivered: {why}.", "metadata": {"delivered": False}}
        return [ev.notice("files", f"{told['text']} {detail}".strip()), ev.artifact(name, [told])]


def _parts(file: Kept, inline: int) -> list[Json]:
    if file.size <= PIECE or file.size > inline:
        return [file.part()]
    return [file.part(start, min(start + PIECE, file.size)) for start in range(0, file.size, PIECE)]


def _mark(file: BinaryIO) -> Mark:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _unforged(part: Json) -> Json:
    """Only the gateway refers to what is stored."""
    return {"data": part} if STORED in part else part


def _bytes(part: Json) -> bytes | None:
    raw = part.get("raw")
    if not isinstance(raw, str):
        return None
    try:
        return base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_text(media_type: str, begin: bytes) -> bool:
    """Whether a file is text: it says so, or looks like it, as a script does whatever its type is."""
    kind = essence(media_type)
    return kind.startswith("text/") or kind in _TEXT_TYPES or guessed("", begin[:HEAD]) == "text/plain"


def veiled(pieces: Iterator[bytes], paths: Mapping[str, str]) -> Iterator[bytes]:
    """Bytes of text with hidden paths replaced. Latin-1 gives each byte a character, whatever the text's encoding is."""
    veil = Veil({_wide(path): _wide(shown) for path, shown in paths.items()})
    for piece in pieces:
        yield veil.text(piece.decode("latin-1")).encode("latin-1")
    yield veil.rest().encode("latin-1")


def _wide(text: str) -> str:
    return text.encode().decode("latin-1")
