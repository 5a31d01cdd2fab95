"""Copies of journals in an object store: S3, or any other that fsspec knows by its URL.

    <root>/<session>/<name>.json            what the attempt of that name left: `native`, and its entries by path
    <root>/<session>/<name>/<number>        the files that were new in it

An entry is {kind: dir | file | link, mode, size, mtime_ns, object | target}. The copy is there once its JSON is: objects
are written before it, and a file that has not changed is the object of an older copy. What no copy needs goes with the next.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import Any

from gateway.turns.copies import Kept, copy, looks, walk

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Objects:
    """See `copies.Copies`. `files` is an fsspec file system."""

    files: Any
    root: str

    @classmethod
    def at(cls, url: str) -> Objects:
        """Raises ValueError for a URL nobody knows, ImportError where the package for it is missing."""
        from fsspec.core import url_to_fs

        folders = {"auto_mkdir": True} if url.startswith("file:") else {}  # object stores have none to make
        files, root = url_to_fs(url, use_listings_cache=False, **folders)
        return cls(files, root.rstrip("/"))

    def names(self, session_id: str) -> list[int]:
        with _explained():
            found = [name.removesuffix(".json") for name in self._listed(session_id) if name.endswith(".json")]
            return sorted((int(name) for name in found if name.isdecimal()), reverse=True)

    def restore(self, session_id: str, name: int, new: Path) -> Json:
        with _explained():
            copy = self._read(session_id, name)
            entries: dict[str, Json] = copy["entries"]
            files = {path: entry for path, entry in entries.items() if entry["kind"] == "file"}
            new.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path, entry in entries.items():
                if entry["kind"] == "dir":
                    (new / path).mkdir(mode=0o700)
            self._get({f"{self.root}/{session_id}/{entry['object']}": new / path for path, entry in files.items()})
            for path, entry in reversed(entries.items()):
                if entry["kind"] == "link":
                    os.symlink(entry["target"], new / path)
                    continue
                os.chmod(new / path, stat.S_IMODE(entry["mode"]))
                if entry["kind"] == "file":
                    os.utime(new / path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
            native: Json = copy["native"]
            return native

    def keep(self, session_id: str, name: int, place: Path, native: Mapping[str, Any]) -> None:
        with _explained():
            names, folder = self.names(session_id), f"{self.root}/{session_id}"
            before: dict[str, Json] = self._read(session_id, names[0])["entries"] if names else {}
            entries: dict[str, Json] = {}
            stage = place.with_name(f".{place.name}.{secrets.token_hex(4)}")  # nobody changes what is on its way
            stage.mkdir(parents=True, mode=0o700)
            try:
                new: list[Path] = []
                for kept in walk(place):
                    with suppress(FileNotFoundError):
                        entry = _entry(kept)
                        if entry["kind"] == "file" and _same(entry, old := before.get(kept.path, {})):
                            entry["object"] = old["object"]
                        elif entry["kind"] == "file":
                            entry["object"] = f"{name}/{len(new)}"
                            copy(kept, stage / str(len(new)))
                            new.append(stage / str(len(new)))
                        entries[kept.path] = entry
                if new:
                    self.files.put([str(path) for path in new], [f"{folder}/{name}/{path.name}" for path in new])
            finally:
                shutil.rmtree(stage, ignore_errors=True)
            told = json.dumps({"native": dict(native), "entries": entries})
            self.files.pipe_file(f"{folder}/{name}.json", told.encode())
            self._tidy(session_id, name, {entry["object"] for entry in entries.values() if "object" in entry})

    def _tidy(self, session_id: str, name: int, needed: set[str]) -> None:
        """Remove older copies, and what of them this one does not need; all is left to a newer one, if there is one."""
        folder = f"{self.root}/{session_id}"
        names = self.names(session_id)
        if names[:1] != [name]:
            return
        unused = [f"{folder}/{old}.json" for old in names[1:]]
        for found in self.files.find(folder):
            key = found.removeprefix(folder.removeprefix("/")).removeprefix(folder).lstrip("/")
            writer = key.partition("/")[0]
            if writer.isdecimal() and int(writer) < name and key not in needed:
                unused.append(f"{folder}/{key}")
        if unused:
            self.files.rm(unused)

    def _listed(self, session_id: str) -> list[str]:
        try:
            found = self.files.ls(f"{self.root}/{session_id}", detail=False)
        except FileNotFoundError:
            return []
        return [path.rsplit("/", 1)[-1] for path in found]

    def _read(self, session_id: str, name: int) -> Json:
        copy: Json = json.loads(self.files.cat_file(f"{self.root}/{session_id}/{name}.json"))
        return copy

    def _get(self, wanted: Mapping[str, Path]) -> None:
        if wanted:
            self.files.get(list(wanted), [str(path) for path in wanted.values()])


def _entry(kept: Kept) -> Json:
    if kept.kind == "link":
        return {"kind": "link", "target": kept.target}
    if kept.kind == "dir":
        return {"kind": "dir", "mode": kept.status.st_mode}
    return {"kind": "file", **dict(zip(("size", "mtime_ns", "mode"), looks(kept.status), strict=True))}


def _same(new: Json, old: Json) -> bool:
    return old.get("kind") == "file" and all(old[key] == new[key] for key in ("size", "mtime_ns", "mode"))


@contextmanager
def _explained() -> Iterator[None]:
    """Whatever a store's client fails with, as OSError."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as exc:
        raise OSError(EIO, f"{type(exc).__name__}: {exc}") from exc
