"""Secrets at rest: AES-256-GCM, bound to where the value belongs.

A blob is `v1.<key id>.<base64 of nonce and ciphertext>`. Its associated data name table, row, place and key id: a
blob copied to another agent or another variable does not open. The key file holds one `<key id> <base64 key>` a line;
the last line seals, all open, so that a key is changed by adding a line.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry import keyfile
from registry.rules import KeyFileUnsafe, Unreadable

_NONCE = 12


@dataclass(slots=True)
class Secrets:
    """The keys of one installation. `current` is "" as long as there is none."""

    keys: Mapping[str, bytes] = field(repr=False)
    current: str

    @classmethod
    def load(cls, path: Path) -> Secrets:
        """The keys in `path`, made at first use. Raises KeyFileUnsafe for a file others may read, or a damaged one."""
        text = keyfile.read_or_create(path, _new_line)
        try:
            pairs = [line.split() for line in text.splitlines()]
            keys = {id: base64.b64decode(key, validate=True) for id, key in pairs}
        except ValueError as exc:
            raise KeyFileUnsafe(f"The key file '{path}' is damaged.", "Restore it from a backup.") from exc
        if any(len(key) != 32 for key in keys.values()):
            raise KeyFileUnsafe(f"The key file '{path}' is damaged.", "Restore it from a backup.")
        return cls(keys, pairs[-1][0])

    def take(self, other: Secrets) -> None:
        self.keys, self.current = other.keys, other.current

    def box(self, table: str, row: str) -> Box:
        return Box(self, table, row)


@dataclass(frozen=True, slots=True)
class Box:
    """Seals and opens the values of one row."""

    secrets: Secrets
    table: str
    row: str

    def seal(self, place: str, value: str) -> str:
        key_id, nonce = self.secrets.current, secrets.token_bytes(_NONCE)
        sealed = AESGCM(self.secrets.keys[key_id]).encrypt(nonce, value.encode(), self._belongs(place, key_id))
        return f"v1.{key_id}.{base64.b64encode(nonce + sealed).decode()}"

    def open(self, place: str, blob: str) -> str:
        """Raises Unreadable for a blob that was damaged, moved, or sealed with a key that is gone."""
        try:
            version, key_id, data = blob.split(".", 2)
            raw = base64.b64decode(data, validate=True)
            if version != "v1":
                raise ValueError(version)
            return AESGCM(self.secrets.keys[key_id]).decrypt(raw[:_NONCE], raw[_NONCE:], self._belongs(place, key_id)).decode()
        except (ValueError, KeyError, InvalidTag, binascii.Error) as exc:
            hint = "Restore the key file that belongs to this database, or set the value again."
            raise Unreadable(f"The secret {place!r} cannot be opened.", hint) from exc

    def _belongs(self, place: str, key_id: str) -> bytes:
        return "\x00".join((self.table, self.row, place, key_id)).encode()


def _new_line() -> str:
    return f"{secrets.token_hex(4)} {base64.b64encode(secrets.token_bytes(32)).decode()}"
