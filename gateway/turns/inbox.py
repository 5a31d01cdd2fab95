"""Puts the files of a turn's messages into `inbox/` of its working directory, where its runtime finds them.

Nothing there is overwritten: a name that is taken gets a number. What was placed stands in the messages as
`{"path", "filename", "mediaType"}`, of which `spec.prompt_of` makes a line for the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.files.refs import STORED
from gateway.files.store import Store, pieces_of
from gateway.turns import folders
from gateway.turns.launching import Place

INBOX = "inbox"
MAX_DATA = 32 * 1024  # characters of a data part that stand in the prompt
Json = dict[str, Any]


def placed(store: Store, place: Place, bodies: list[Json]) -> list[Json]:
    """The messages, their files put into the inbox. Blocks; raises Unavailable, OSError."""
    return [{**body, "parts": [_placed(store, place, part) for part in body["parts"]]} for body in bodies]


def _placed(store: Store, place: Place, part: Json) -> Json:
    if STORED in part:
        stored: Mapping[str, Any] = part[STORED]
        with store.open(stored["sha256"]) as file:
            path = _write(place, stored["name"], pieces_of(file, 0, stored["size"]))
        return _shown(part, path, stored["name"], stored["media_type"])
    if "data" in part and len(data := json.dumps(part["data"], ensure_ascii=False)) > MAX_DATA:
        path = _write(place, "data.json", [data.encode("utf-8", "replace")])
        return _shown(part, path, "data.json", part.get("mediaType") or "application/json")
    return part


def _write(place: Place, name: str, pieces: Iterable[bytes]) -> str:
    place.make()
    with folders.made(place.work, INBOX) as folder:
        found, file = folders.create(folder, name)
        with file:
            file.writelines(pieces)
    return f"{INBOX}/{found}"


def _shown(part: Json, path: str, name: str, media_type: str) -> Json:
    about = {"metadata": part["metadata"]} if part.get("metadata") else {}
    return {"path": path, "filename": name, "mediaType": media_type, **about}
