"""Hosts an agent may reach, as its owner writes them: `api.example.com`, `*.example.com`, `mirror.example.com:8443`.

Names only, since a policy of addresses would hold for whatever stands behind them tomorrow. A wildcard stands for one
label or more, not for the name itself. Without a port, those of http and https are meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PORTS = (80, 443)
MAX_NAME = 253
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(\*\.)?({_LABEL}(?:\.{_LABEL})*)(?::([0-9]{{1,5}}))?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as a last label: an address in one of its spellings


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    below: bool = False  # what is below the name, instead of the name
    port: int | None = None

    def admits(self, name: str, port: int) -> bool:
        """`name` in lower case, without a dot at its end."""
        if port not in (PORTS if self.port is None else (self.port,)):
            return False
        return name.endswith("." + self.name) if self.below else name == self.name


def parse(text: str) -> Host:
    """Raises ValueError for what is no host."""
    found = _HOST.fullmatch(text.lower())
    if found is None or len(found[2]) > MAX_NAME or _NUMBER.fullmatch(found[2].rpartition(".")[2]):
        raise ValueError(f"{text[:100]!r} is no host")
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text[:100]!r} names no port there is")
    return Host(found[2], bool(found[1]), port)
