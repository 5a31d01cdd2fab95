"""Files that come with a message: checked against what the agent takes, bounded, and stored before the message is.

A message whose files fail in any way stores nothing; bytes of those before the one that failed are swept later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from gateway.clock import new_id
from gateway.errors import InvalidParams, TooLarge, UnsupportedType
from gateway.files.fetch import Fetcher
from gateway.files.names import OCTETS, accepted, essence, guessed, is_media_type, safe_name
from gateway.files.refs import Json, Kept
from gateway.files.store import Store, put
from gateway.settings import Settings

HEAD = 512  # bytes by which the type of a file is guessed


@dataclass(frozen=True, slots=True)
class Given:
    """A part of a message as it came: exactly one of `part` (text or data, taken as it is), `raw` and `url` counts."""

    part: Json | None = None
    raw: bytes | None = None
    url: str = ""
    name: str = ""
    media_type: str = ""
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """`parts` for the log; `files`, whose rows are to be written with it."""

    parts: tuple[Json, ...]
    files: tuple[Kept, ...]


class Intake:
    def __init__(self, store: Store, fetcher: Fetcher, settings: Settings) -> None:
        self._store, self._fetcher, self._settings = store, fetcher, settings

    async def take(self, given: Sequence[Given], modes: Sequence[str]) -> Taken:
        """Raises UnsupportedType, InvalidParams, TooLarge, Unavailable."""
        for one in given:
            check_type(one, modes)
        files = [one for one in given if one.part is None]
        self._check_sizes(files)
        left = self._settings.max_files_bytes - sum(len(one.raw or b"") for one in files)
        parts, kept = list[Json](), list[Kept]()
        for one in given:
            if one.part is not None:
                parts.append(one.part)
                continue
            file = await self._kept(one) if one.raw is not None else await self._fetched(one, modes, left)
            left -= 0 if one.raw is not None else file.size
            kept.append(file)
            parts.append(file.part() | ({"metadata": one.metadata} if one.metadata else {}))
        return Taken(tuple(parts), tuple(kept))

    def _check_sizes(self, files: list[Given]) -> None:
        limits = self._settings
        if len(files) > limits.max_files:
            raise TooLarge(f"The message has {len(files)} files; at most {limits.max_files} are taken.", "Send fewer.")
        for one in files:
            if len(one.raw or b"") > limits.max_file_bytes:
                said = f"The file {one.name[:80]!r} has {len(one.raw or b'')} bytes; at most {limits.max_file_bytes} are taken."
                raise TooLarge(said, "Send a smaller one.")
        if sum(len(one.raw or b"") for one in files) > limits.max_files_bytes:
            said = f"The message's files have more than {limits.max_files_bytes} bytes together."
            raise TooLarge(said, "Send some of them with another message.")

    async def _kept(self, one: Given) -> Kept:
        raw = one.raw or b""
        media_type = type_of(one, raw)
        content = await anyio.to_thread.run_sync(put, self._store, [raw])
        return Kept(new_id("fil"), safe_name(one.name, media_type), media_type, content.size, content.sha256)

    async def _fetched(self, one: Given, modes: Sequence[str], left: int) -> Kept:
        upload = await anyio.to_thread.run_sync(self._store.begin)
        head = bytearray()

        async def write(piece: bytes) -> None:
            head.extend(piece[: max(0, HEAD - len(head))])
            await anyio.to_thread.run_sync(upload.write, piece)

        try:
            found = await self._fetcher.fetch(one.url, min(self._settings.max_file_bytes, left), write)
            said = essence(found.media_type)
            if is_media_type(said) and said != OCTETS and not accepted(said, modes):
                raise unsupported(said, modes)
            name = one.name or found.name
            media_type = one.media_type or (said if is_media_type(said) and said != OCTETS else guessed(name, bytes(head)))
            if not accepted(media_type, modes):
                raise unsupported(media_type, modes)
            content = await anyio.to_thread.run_sync(upload.keep)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(upload.drop)
            raise
        return Kept(new_id("fil"), safe_name(name, media_type), media_type, content.size, content.sha256)


def check_type(one: Given, modes: Sequence[str]) -> None:
    """Text is always taken; data and files as far as the card says so. What a URL leads to is told only by its answer."""
    if one.media_type and not is_media_type(one.media_type):
        raise InvalidParams(f"The mediaType {one.media_type[:80]!r} is none.", "Write it like image/png, or leave it out.")
    media_type = type_of(one, one.raw or b"")
    if media_type and not accepted(media_type, modes):
        raise unsupported(media_type, modes)


def type_of(one: Given, head: bytes) -> str:
    """What a part says it is, else what it looks like; "" for what need not be looked at, or cannot be yet."""
    if one.part is not None and "text" in one.part:
        return ""
    if one.part is not None:
        return one.media_type or "application/json"
    return one.media_type or ("" if one.raw is None else guessed(one.name, head[:HEAD]))


def unsupported(media_type: str, modes: Sequence[str]) -> UnsupportedType:
    return UnsupportedType(f"This agent does not take {media_type}.", f"It takes {', '.join(modes)[:300]}.")
