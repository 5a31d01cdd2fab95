"""What runs on in a container whose engine does not answer: it is ended by way of its cgroup, which names the container.

That works where the engine's machine is this one, and its processes are seen and may be ended here. Elsewhere they run on
until the engine is back; then whoever it belongs to removes the container.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

LOOKS = 5  # what is killed may just have started something


def end_strays(container_id: str, variable: str = "") -> int:
    """SIGKILL to every process of a container (its whole id), or to those with a `NAME=value`. How many there were."""
    ended = 0
    for _ in range(LOOKS):
        found = [pid for pid in _processes(container_id) if not variable or _has(pid, variable)]
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, SIGKILL)
                ended += 1
    return ended


def _processes(container_id: str) -> list[int]:
    found: list[int] = []
    if not container_id:
        return found
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if container_id in (folder / "cgroup").read_text("ascii", "replace") and (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))  # a zombie has no command line
    return found


def _has(pid: int, variable: str) -> bool:
    with suppress(OSError):
        return variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
