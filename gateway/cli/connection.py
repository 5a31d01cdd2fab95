"""Where the gateway is and which key to show it: flag, environment, project file, user file, default.

The project file is the nearest `switchboard.toml` at or above the working directory, the user file `config.toml` in the
user's configuration directory; both may hold `url`, `owner_key` and `token` (a caller's). A project file comes with
somebody's repository, so a URL of its that leads off this machine is only shown a key the user named for it (flag,
environment) or one from the same file, never the key of the user's own gateway.

Host, port and data directory are read here and not through `gateway.settings`, whose import takes longer than a command
may; a test holds both to the same answers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import NotAllowed, UsageError

PROJECT_FILE = "switchboard.toml"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it came from."""

    value: str
    source: str
    from_project: bool = False


def find_url(flag: str | None) -> Found:
    found = _named("url", flag, "--url") or _default_url()
    if not _is_address(found.value):
        raise UsageError(f"URL {found.value!r} from {found.source} is no gateway's address.", "Write it as http://HOST:PORT")
    return Found(found.value.rstrip("/"), found.source, found.from_project)


def find_key(flag: str | None, url: Found) -> Found | None:
    strange = url.from_project and not is_local(url.value)
    found = _named("owner_key", flag, "--key", user_file=not strange)
    if found is None and not strange:
        found = _key_of_data_dir()
    if found is not None and not (found.value.isascii() and found.value.isprintable()):
        raise UsageError(f"The owner key from {found.source} holds characters no key has.", "Copy it again from owner.key")
    return found


def find_token(flag: str | None, url: Found) -> Found | None:
    """The key or token a caller signs in with, by the same rules as the owner key."""
    strange = url.from_project and not is_local(url.value)
    found = _named("token", flag, "--token", user_file=not strange)
    if found is not None and not (found.value.isascii() and found.value.isprintable()):
        raise UsageError(f"The token from {found.source} holds characters no token has.", "Copy it again.")
    return found


def is_local(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK


def data_dir() -> Path:
    from platformdirs import user_data_path

    given = os.environ.get("SWITCHBOARD_DATA_DIR")
    return Path(given) if given else user_data_path("switchboard")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a broken IPv6 address, a port that is no number
        return False


def _named(name: str, flag: str | None, flag_name: str, *, user_file: bool = True) -> Found | None:
    variable = f"SWITCHBOARD_{name.upper()}"
    if flag:
        return Found(flag, flag_name)
    if os.environ.get(variable):
        return Found(os.environ[variable], variable)
    return _from_project(name) or (_from_user(name) if user_file else None)


def _from_project(name: str) -> Found | None:
    here = Path.cwd()
    for directory in (here, *here.parents):
        path = directory / PROJECT_FILE
        if path.is_file():
            value = _entry(path, name)
            return Found(value, str(path), from_project=True) if value else None
    return None


def _from_user(name: str) -> Found | None:
    from platformdirs import user_config_path

    path = user_config_path("switchboard") / "config.toml"
    value = _entry(path, name) if path.is_file() else None
    return Found(value, str(path)) if value else None


def _entry(path: Path, name: str) -> str | None:
    value = _read(path).get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name!r} in {path} is {value!r}, not a text.", f'Write it as: {name} = "…"')
    return value


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path} cannot be read: {exc}.", "Mend or remove the file.") from exc


def _default_url() -> Found:
    host, port = os.environ.get("SWITCHBOARD_HOST"), os.environ.get("SWITCHBOARD_PORT")
    source = "SWITCHBOARD_HOST and SWITCHBOARD_PORT" if host or port else "default"
    if host in (None, "", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return Found(f"http://{f'[{host}]' if ':' in str(host) else host}:{port or 8000}", source)


def _key_of_data_dir() -> Found | None:
    path = data_dir() / "owner.key"
    try:
        key = path.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise NotAllowed(
            f"The owner key in {path} cannot be read: {exc}.", "Pass it with --key or SWITCHBOARD_OWNER_KEY."
        ) from exc
    return Found(key, str(path)) if key else None
