"""What a session is created from: options, or a file (`-f dispatch.yaml`) with the same fields as the API's body.

In a file, a context without `text` and a file with a `path` are read from where the file lies.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from gateway.errors import UsageError

Json = dict[str, Any]


def load(path: Path) -> Json:
    import yaml

    try:
        body = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise UsageError(
            f"{path} cannot be read: {exc}.", "Write it as YAML: agent, input, metadata, limits, destinations."
        ) from exc
    if not isinstance(body, dict):
        raise UsageError(f"{path} holds no mapping.", "Write it as YAML: agent, input, metadata, limits, destinations.")
    if isinstance(body.get("input"), list):
        body["input"] = [_filled(part, path.parent) for part in body["input"]]
    return body


def _filled(part: Any, folder: Path) -> Any:
    match part:
        case {"context": {"path": str(path), **rest}} if "text" not in rest:
            return {"context": {"path": path, "text": _read(folder / path).decode("utf-8", "replace"), **rest}}
        case {"file": {"path": str(path), **rest}}:
            raw = base64.b64encode(_read(folder / path)).decode()
            return {"file": {"raw": raw, "name": Path(path).name, **rest}}
    return part


def attached(path: str) -> Json:
    return {"file": {"raw": base64.b64encode(_read(Path(path))).decode(), "name": Path(path).name}}


def context(path: str) -> Json:
    return {"context": {"path": path, "text": _read(Path(path)).decode("utf-8", "replace")}}


def mention(text: str) -> Json:
    """`src/a.py`, `src/a.py:3` or `src/a.py:3-9`."""
    path, _, lines = text.rpartition(":")
    first, _, last = lines.partition("-")
    if not path or not first.isdecimal() or not (last.isdecimal() or not last):
        return {"mention": {"path": text}}
    return {"mention": {"path": path, "start_line": int(first)} | ({"end_line": int(last)} if last else {})}


def pairs(given: tuple[str, ...], option: str) -> Json:
    """NAME=VALUE, each value as JSON if it is some, else as text."""
    found: Json = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {one!r} has no value.", f"Write it as: {option} NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise UsageError(f"'{path}' cannot be read: {exc.strerror}.", "Check the path.") from exc
