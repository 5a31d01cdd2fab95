"""Stored files in what callers read: small ones as `raw`, others as a `url`, in the JSON of tasks and updates.

An answer holds at most `MAX_INLINE` bytes of files, so that no client's limit of a message is passed; what is beyond
comes as a URL.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anyio.to_thread

from gateway.files.links import Links
from gateway.files.refs import STORED, Json
from gateway.files.store import Store

MAX_INLINE = 2 * 2**20


class Shown:
    def __init__(self, store: Store, links: Links, inline: int) -> None:
        self._store, self._links, self._inline = store, links, inline

    @property
    def slot(self) -> int:
        """What was made with another one holds URLs of another age."""
        return self._links.expires

    async def tasks(self, tasks: list[Json]) -> list[Json]:
        """Several tasks of one answer."""
        if not any(_has_stored(holder) for task in tasks for holder in _holders(task)):
            return tasks
        return await anyio.to_thread.run_sync(self._tasks, tasks)

    async def task(self, task: Json) -> Json:
        return (await self.tasks([task]))[0]

    async def update(self, update: Json) -> Json:
        """A stream's update: of them only an artifact's has files."""
        found = update.get("artifactUpdate")
        if found is None or not _has_stored(found["artifact"]):
            return update
        made = await anyio.to_thread.run_sync(self._holder, found["artifact"], _Budget())
        return {**update, "artifactUpdate": {**found, "artifact": made}}

    async def bodies(self, bodies: list[Json]) -> list[Json]:
        """Bodies of events as they go to callers: messages and artifacts have parts, a snapshot has tasks."""
        holders = [holder for body in bodies for holder in _holders_in(body)]
        if not any(map(_has_stored, holders)):
            return bodies
        return await anyio.to_thread.run_sync(self._bodies, bodies)

    def _bodies(self, bodies: list[Json]) -> list[Json]:
        budget = _Budget()
        return [self._body(body, budget) for body in bodies]

    def _body(self, body: Json, budget: _Budget) -> Json:
        if "tasks" in body:
            return {**body, "tasks": [self._task(task, budget) for task in body["tasks"]]}
        return self._holder(body, budget) if "parts" in body else body

    def _tasks(self, tasks: list[Json]) -> list[Json]:
        budget = _Budget()
        return [self._task(task, budget) for task in tasks]

    def _task(self, task: Json, budget: _Budget) -> Json:
        made = dict(task)
        for name in ("artifacts", "history"):
            if name in task:
                made[name] = [self._holder(holder, budget) for holder in task[name]]
        return made

    def _holder(self, holder: Json, budget: _Budget) -> Json:
        return {**holder, "parts": [self._part(part, budget) for part in holder["parts"]]}

    def _part(self, part: Json, budget: _Budget) -> Json:
        stored: Json | None = part.get(STORED)
        if stored is None:
            return part
        start, end = (stored["start"], stored["end"]) if "start" in stored else (0, stored["size"])
        about: Json = {"filename": stored["name"], "mediaType": stored["media_type"]}
        if part.get("metadata"):
            about["metadata"] = part["metadata"]
        if stored["size"] > self._inline or not budget.takes(end - start):
            return {"url": self._links.url(stored["id"]), **about}
        if end - start < stored["size"]:
            about["metadata"] = {**about.get("metadata", {}), "offset": start, "size": stored["size"]}
        return {"raw": base64.b64encode(self._bytes(stored["sha256"], start, end)).decode(), **about}

    def _bytes(self, sha256: str, start: int, end: int) -> bytes:
        with self._store.open(sha256) as file:
            file.seek(start)
            return file.read(end - start)


class _Budget:
    def __init__(self) -> None:
        self._left = MAX_INLINE

    def takes(self, size: int) -> bool:
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


def _holders(task: Json) -> Iterator[Json]:
    yield from task.get("artifacts", ())
    yield from task.get("history", ())


def _holders_in(body: Json) -> Iterator[Json]:
    if "parts" in body:
        yield body
    for task in body.get("tasks", ()):
        yield from _holders(task)


def _has_stored(holder: dict[str, Any]) -> bool:
    return any(STORED in part for part in holder["parts"])
