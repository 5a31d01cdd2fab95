"""What of the machine an agent is given beside its session: mounts, volumes and security options, and what may be.

A mount is a directory or a file of the machine, below a root the operator named; a volume is a directory the gateway keeps
for the agent, which all its sessions share. Both are seen inside below /mnt. A mount is looked at when the agent is
registered and again each time it is used, because links may have been turned meanwhile.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.rules import Invalid

if TYPE_CHECKING:
    from registry.makeup import Makeup

_TARGET = re.compile(r"/mnt(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}){1,8}")
_SYSTEM_NAMES = """
    /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /usr /var/run /var/lib/docker
"""
_SYSTEM = _SYSTEM_NAMES.split()
_SECRET = (".ssh", ".gnupg", ".aws", ".kube", ".docker", ".config/gcloud")
_NEVER = ("unconfined", "disable")  # of what an option names: the protection would be gone


@dataclass(frozen=True, slots=True)
class Ground:
    """What the operator lets agents have. `own` is the gateway's own directory, with its keys and every session."""

    roots: tuple[str, ...] = ()
    security: frozenset[str] = frozenset()
    own: str = ""


def check(makeup: Makeup, ground: Ground) -> None:
    """Raises Invalid."""
    given = [*makeup.mounts, *makeup.volumes]
    if given and makeup.placement == "local":
        what = "Mounts" if makeup.mounts else "Volumes"
        said = f"{what} need a sandbox or a container around the agent, and it is placed 'local'."
        raise Invalid(
            said, "Set placement to sandboxed or docker too; a local agent sees the machine's directories as they are."
        )
    _check_targets([place["target"] for place in given])
    _check_unique_volumes(makeup.volumes)
    for mount in makeup.mounts:
        source_of(mount["source"], ground)
    _check_security(makeup, ground)


def source_of(source: str, ground: Ground) -> str:
    """Where a mount's source really is, links followed. Raises Invalid."""
    if not os.path.isabs(source) or "\0" in source or os.path.normpath(source) != source or source.startswith("//"):
        said = f"The mount {source[:200]!r} is no plain absolute path."
        raise Invalid(said, "Write it from the root on, without '..', '.' and doubled slashes.")
    real = os.path.realpath(source)
    roots = [os.path.realpath(root) for root in ground.roots]
    if not any(_below(real, root) for root in roots):
        allowed = ", ".join(ground.roots) or "none"
        led = "" if real == source else f"; it leads to {real!r}"
        hint = f"The operator names roots in SWITCHBOARD_MOUNT_ROOTS; there: {allowed}."
        raise Invalid(f"The mount {source!r} is below none of the roots that agents may be given{led}.", hint)
    _check_not_sensitive(source, real, ground)
    try:
        kind = os.stat(real).st_mode
    except OSError as exc:
        said = f"The mount {source!r} cannot be used where the gateway runs: {exc.strerror}."
        raise Invalid(said, "Make it first, under the same path wherever gateways and workers run.") from exc
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise Invalid(f"The mount {source!r} is neither a directory nor a file.", "Name one; sockets and devices are refused.")
    return real


def _check_not_sensitive(source: str, real: str, ground: Ground) -> None:
    own = os.path.realpath(ground.own) if ground.own else ""
    reason = ""
    if real == "/" or any(_below(real, place) or _below(place, real) for place in _SYSTEM):
        reason = "it is, or holds, a directory of the system's"
    elif own and (_below(real, own) or _below(own, real)):
        reason = "the gateway's own data, with its keys and all sessions, is there"
    elif any(f"/{name}/" in f"{real}/" or os.path.lexists(os.path.join(real, name)) for name in _SECRET):
        reason = f"keys are kept there ({', '.join(_SECRET)})"
    if reason:
        raise Invalid(f"The mount {source!r} is refused: {reason}.", "Name a directory below that holds what the agent needs.")


def _below(path: str, root: str) -> bool:
    return path == root or Path(path).is_relative_to(root)


def _check_targets(targets: list[str]) -> None:
    for number, target in enumerate(targets):
        if not _TARGET.fullmatch(target):
            raise Invalid(f"{target[:200]!r} cannot be where a mount is seen inside.", "Write it like '/mnt/data'.")
        for other in targets[:number]:
            if _below(target, other) or _below(other, target):
                raise Invalid(f"The targets {other!r} and {target!r} lie in one another.", "Give each its own directory.")


def _check_unique_volumes(volumes: Iterable[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for volume in volumes:
        if volume["name"] in seen:
            raise Invalid(f"The volume {volume['name']!r} is given twice.", "Give each its own name.")
        seen.add(volume["name"])


def _check_security(makeup: Makeup, ground: Ground) -> None:
    if makeup.security_opt and makeup.placement != "docker":
        raise Invalid(
            f"security_opt is of containers; the agent is placed {makeup.placement!r}.", "Set placement to docker too."
        )
    for option in makeup.security_opt:
        if option not in ground.security or option.rpartition("=")[2].rpartition(":")[2] in _NEVER:
            allowed = ", ".join(sorted(ground.security)) or "none"
            hint = f"The operator names options in SWITCHBOARD_CONTAINER_SECURITY_OPTIONS; there: {allowed}."
            raise Invalid(f"The security option {option[:200]!r} may not be given to agents.", hint)
