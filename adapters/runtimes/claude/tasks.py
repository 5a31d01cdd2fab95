"""The CLI's task list. It is written one task at a time (TaskCreate, TaskUpdate); callers are told the plan as a whole.

It lives as long as the session, so it is kept in the dialogue's memory between turns: plain JSON, task id -> item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = frozenset({"TaskCreate", "TaskUpdate", "TaskGet", "TaskList"})


class Tasks:
    def __init__(self, items: dict[str, dict[str, str]]) -> None:
        self._items = items

    def call(self, name: str, call: str, input: Mapping[str, Any]) -> list[dict[str, str]]:
        """The plan as it will be after the call with id `call`."""
        if name == "TaskCreate":
            self._items[call] = {"text": str(input.get("subject") or ""), "status": "pending"}
        elif name == "TaskUpdate":
            self._update(str(input.get("taskId")), input)
        return [dict(item) for item in self._items.values()]

    def result(self, call: str, is_error: bool, own: Any) -> None:
        """A created task is known by its call until the result tells its id."""
        item = self._items.pop(call, None)
        task = own.get("task") if isinstance(own, Mapping) else None
        if item is not None and not is_error and isinstance(task, Mapping):
            self._items[str(task.get("id"))] = item

    def _update(self, id: str, input: Mapping[str, Any]) -> None:
        if input.get("status") == "deleted":
            self._items.pop(id, None)
            return
        change = {"text": input.get("subject"), "status": input.get("status")}
        if id in self._items or change["text"]:
            known = self._items.get(id, {"text": "", "status": "pending"})
            self._items[id] = known | {key: str(value) for key, value in change.items() if value}
