"""The keys that sign agent cards: ES256, in a file with one JWK a line. The last line signs.

A rotated key loses its private half at once. Its public half stays for a while, so that cards fetched before still
verify. Signatures are deterministic (RFC 6979): the same card gives the same bytes, and so the same ETag, after a
restart and in every process.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from registry import keyfile
from registry.rules import KeyFileUnsafe

_SIZE = 32  # bytes of a coordinate, and of each half of a signature


@dataclass(frozen=True, slots=True)
class CardKey:
    """A key pair, or after `retired_at` its public half. Times are microseconds since the epoch."""

    kid: str
    public: ec.EllipticCurvePublicKey = field(repr=False)
    created_at: int
    retired_at: int | None = None
    private: ec.EllipticCurvePrivateKey | None = field(default=None, repr=False)

    def sign(self, data: bytes) -> bytes:
        """An ES256 signature, as JWS wants it (RFC 7518, section 3.4)."""
        assert self.private is not None, "a retired key signs nothing"
        der = self.private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return b"".join(half.to_bytes(_SIZE, "big") for half in decode_dss_signature(der))

    def jwk(self) -> dict[str, str]:
        """The public half, as a JWKS holds it."""
        return {**_coordinates(self.public), "kid": self.kid, "use": "sig", "alg": "ES256"}


class CardKeys:
    """The keys in `path`, made at first use. `keep_us`: how long the public half of a rotated key is published."""

    def __init__(self, path: Path, keep_us: int, clock: Callable[[], int]) -> None:
        self.path, self.keep_us, self._clock = path, keep_us, clock
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], tuple[CardKey, ...]] = ((0, 0), ())
        keyfile.read_or_create(path, lambda: _line(_new(clock())))
        self.all()

    def all(self) -> tuple[CardKey, ...]:
        """Oldest first; read again when another process replaced the file. Raises KeyFileUnsafe."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:  # lost meanwhile: what was read still holds
            return self._read[1]
        seen = (stat.st_mtime_ns, stat.st_ino)
        if self._read[0] != seen:
            text = keyfile.read_or_create(self.path, lambda: _line(_new(self._clock())))
            self._read = (seen, _parsed(self.path, text))
        return self._read[1]

    def current(self) -> CardKey:
        return self.all()[-1]

    def published(self) -> list[CardKey]:
        """Newest first: the key that signs, then those whose cards may still be about."""
        return [key for key in reversed(self.all()) if self._kept(key)]

    def until(self, key: CardKey) -> int | None:
        """When a rotated key leaves the JWKS."""
        return None if key.retired_at is None else key.retired_at + self.keep_us

    def rotate(self) -> CardKey:
        """A new key signs from now on; the private half of the old one is gone."""
        with self._lock:
            now = self._clock()
            old = [key if key.retired_at is not None else replace(key, retired_at=now, private=None) for key in self.all()]
            new = _new(now)
            lines = [_line(key) for key in (*filter(self._kept, old), new)]
            keyfile.write(self.path, "\n".join(lines), replace=True)
            self._read = ((0, 0), ())
        return new

    def _kept(self, key: CardKey) -> bool:
        return key.retired_at is None or self._clock() < key.retired_at + self.keep_us


def _new(now: int) -> CardKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return CardKey(_thumbprint(private.public_key()), private.public_key(), now, private=private)


def _thumbprint(public: ec.EllipticCurvePublicKey) -> str:
    """A name that says nothing but which key it is (RFC 7638)."""
    canonical = json.dumps(_coordinates(public), sort_keys=True, separators=(",", ":"))
    return _b64(hashlib.sha256(canonical.encode()).digest())


def _coordinates(public: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": _b64(numbers.x.to_bytes(_SIZE, "big")),
        "y": _b64(numbers.y.to_bytes(_SIZE, "big")),
    }


def _line(key: CardKey) -> str:
    values: dict[str, Any] = {**_coordinates(key.public), "created_at": key.created_at}
    if key.retired_at is not None:
        values["retired_at"] = key.retired_at
    elif key.private is not None:
        values["d"] = _b64(key.private.private_numbers().private_value.to_bytes(_SIZE, "big"))
    return json.dumps(values)


def _parsed(path: Path, text: str) -> tuple[CardKey, ...]:
    try:
        keys = tuple(_key(json.loads(line)) for line in text.splitlines())
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise KeyFileUnsafe(f"The key file '{path}' is damaged.", "Restore it from a backup.") from exc
    if keys[-1].private is None:
        raise KeyFileUnsafe(f"The key file '{path}' holds no key that signs.", "Restore it from a backup.")
    return keys


def _key(values: dict[str, Any]) -> CardKey:
    numbers = ec.EllipticCurvePublicNumbers(_int(values["x"]), _int(values["y"]), ec.SECP256R1())
    private = ec.EllipticCurvePrivateNumbers(_int(values["d"]), numbers).private_key() if "d" in values else None
    public = numbers.public_key()
    return CardKey(_thumbprint(public), public, int(values["created_at"]), values.get("retired_at"), private)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _int(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True), "big")
