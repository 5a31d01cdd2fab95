"""Puts the files of a turn's messages into `inbox/` of its working directory, where its runtime finds them.

Nothing there is overwritten: a name that is taken gets a number. What was placed stands in the parts as
`{"path", "filename", "mediaType"}`, of which `spec.prompt_of` makes a line for the runtime.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import anyio.to_thread

from gateway.errors import Unavailable
from gateway.files.refs import STORED
from gateway.files.store import Store, pieces_of
from gateway.turns import folders
from gateway.turns.asked import Asked
from gateway.turns.launching import Place
from gateway.turns.spec import prompt_of

INBOX = "inbox"
MAX_DATA = 32 * 1024  # characters of a data part that stand in the prompt
Json = dict[str, Any]


async def placed(store: Store, place: Place, asked: Asked, start: str = "") -> Asked:
    """What is asked, its files put into the inbox, told as they are found from the folder `start`. Raises Unavailable."""
    if not any(map(_is_file, asked.parts)):
        return asked
    parts = await anyio.to_thread.run_sync(_all_placed, store, place, asked.parts)
    parts = tuple(_from(start, part) for part in parts)
    return replace(asked, parts=parts, prompt=prompt_of([{"parts": parts}]))


def _from(start: str, part: Json) -> Json:
    return {**part, "path": posixpath.relpath(part["path"], start)} if start and "path" in part else part


def _is_file(part: Json) -> bool:
    return STORED in part or ("data" in part and len(_dumps(part["data"])) > MAX_DATA)


def _all_placed(store: Store, place: Place, parts: tuple[Json, ...]) -> tuple[Json, ...]:
    try:
        return tuple(_placed(store, place, part) for part in parts)
    except OSError as exc:
        raise Unavailable(f"The files of a message could not be put into its inbox: {exc}", "Look at its disk.") from exc


def _placed(store: Store, place: Place, part: Json) -> Json:
    if STORED in part:
        stored: Mapping[str, Any] = part[STORED]
        with store.open(stored["sha256"]) as file:
            path = _write(place, stored["name"], pieces_of(file, 0, stored["size"]))
        return _shown(part, path, stored["name"], stored["media_type"])
    if _is_file(part):
        path = _write(place, "data.json", [_dumps(part["data"]).encode("utf-8", "replace")])
        return _shown(part, path, "data.json", part.get("mediaType") or "application/json")
    return part


def _write(place: Place, name: str, pieces: Iterable[bytes]) -> str:
    place.make()
    with folders.made(place.work, INBOX) as folder:
        found, file = folders.create(folder, name)
        with file:
            file.writelines(pieces)
    return f"{INBOX}/{found}"


def _dumps(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)


def _shown(part: Json, path: str, name: str, media_type: str) -> Json:
    about = {"metadata": part["metadata"]} if part.get("metadata") else {}
    return {"path": path, "filename": name, "mediaType": media_type, **about}
