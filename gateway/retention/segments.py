"""Archive files: a piece of a session's log as compressed JSON Lines, an event a line.

A file is named after what it holds (`<session>/<first>-<last>.jsonl.gz`), its bytes depend on nothing else, and it is
there whole or not at all: whoever writes it twice, or beside somebody else, does no harm.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gateway.disk import sync_folder
from gateway.errors import Unavailable
from gateway.log.rows import Row
from gateway.log.store import encode

LEVEL = 6


def name_of(session_id: str, first: int, last: int) -> str:
    return f"{session_id}/{first}-{last}.jsonl.gz"


def line_of(row: Row) -> dict[str, Any]:
    """An event as it stands in a file: all of it but the session, in the log's own words."""
    event = row._asdict()
    del event["session_id"]
    return {**event, "body": json.loads(row.body)}


def row_of(session_id: str, event: dict[str, Any]) -> Row:
    """Raises KeyError, TypeError, ValueError for what is no event."""
    return Row(session_id=session_id, **{**event, "body": encode(event["body"])})


class Writer:
    """Writes one file; `close` makes it appear, durable, under its name."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / name
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._new = self._path.with_name(f".{secrets.token_hex(8)}.new")
        self._raw = self._new.open("xb")
        self._zip = gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=self._raw, mtime=0)

    def add(self, rows: Iterable[Row]) -> None:
        self._zip.write("".join(encode(line_of(row)) + "\n" for row in rows).encode())

    def close(self) -> None:
        self._zip.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        os.replace(self._new, self._path)
        sync_folder(self._path.parent)
        sync_folder(self._path.parent.parent)

    def abandon(self) -> None:
        self._raw.close()
        self._new.unlink(missing_ok=True)


def read(directory: Path, name: str, session_id: str) -> Iterator[Row]:
    """Raises Unavailable for a file that is not there, or damaged."""
    try:
        with gzip.open(directory / name) as file:
            for line in io.TextIOWrapper(file, "utf-8"):
                yield row_of(session_id, json.loads(line))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as exc:
        said = f"The archive file {str(directory / name)!r} of session {session_id!r} cannot be read: {exc}"
        raise Unavailable(said, "Restore it from a backup.") from exc
