"""What a power loss must not take: the names in a directory."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
