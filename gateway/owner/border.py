"""The border between the registry and the gateway: its errors become ours, its key file gets its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.clock import now_us
from gateway.errors import Conflict, InvalidParams, ModelMismatch, NotFound, SwitchboardError, Unavailable, UsageError
from gateway.settings import Settings
from registry import rules
from registry.secrets import Secrets
from registry.signing import CardKeys

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
        return Secrets.load(settings.secrets_key_file)


def load_card_keys(settings: Settings) -> CardKeys:
    """The keys that sign cards, made at first use. Raises as `load_secrets` does."""
    with registry_errors():
        return CardKeys(settings.card_key_file, int(settings.retired_key_days * 86_400_000_000), now_us)
