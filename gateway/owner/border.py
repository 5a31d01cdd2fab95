"""The border between the registry and the gateway: its errors become ours, its key file gets its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import Conflict, InvalidParams, ModelMismatch, NotFound, SwitchboardError, Unavailable, UsageError
from gateway.settings import Settings
from registry import rules
from registry.secrets import Secrets

_ERRORS: dict[type[rules.RegistryError], type[SwitchboardError]] = {
    rules.Invalid: InvalidParams,
    rules.Mismatch: ModelMismatch,
    rules.Missing: NotFound,
    rules.Taken: Conflict,
    rules.Stale: Conflict,
    rules.Unreadable: Unavailable,
    rules.KeyFileUnsafe: UsageError,
}


@contextmanager
def registry_errors() -> Iterator[None]:
    try:
        yield
    except rules.RegistryError as exc:
        raise _ERRORS[type(exc)](exc.message, exc.hint) from exc


def load_secrets(settings: Settings) -> Secrets:
    """The keys that seal secrets, made at first use. Raises UsageError for a key file that is damaged or open to others."""
    with registry_errors():
        return Secrets.load(settings.data_dir / "secrets.key")
