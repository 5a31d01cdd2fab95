"""Signatures of agent cards: a detached JWS over the card's canonical form (spec v1.0, section 8.4).

The canonical form is JCS (RFC 8785) of the card without `signatures`. Readers disagree about one thing: the SDKs take
empty values away before they canonicalize, the specification keeps some (the empty scopes of a security requirement),
and a reader that knows no protobuf canonicalizes what it got. Cards are made so that all this is the same; where it
cannot be, the card is signed once in each form, since one good signature is enough.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import MessageToDict, ParseDict  # type: ignore[import-untyped]  # has no stubs

from registry.signing import CardKey

Json = dict[str, Any]


def signed(document: Json, key: CardKey, jwks_url: str) -> Json:
    """The card with its signatures."""
    header = {"alg": "ES256", "typ": "JOSE", "kid": key.kid, "jku": jwks_url}
    protected = _b64(canonical(header))
    return {**document, "signatures": [_signature(form, key, protected) for form in forms(document)]}


def _signature(payload: bytes, key: CardKey, protected: str) -> Json:
    signing_input = f"{protected}.{_b64(payload)}".encode()
    return {"protected": protected, "signature": _b64(key.sign(signing_input))}


def forms(document: Json) -> list[bytes]:
    """The canonical forms a reader may arrive at: as it came, what 1.0 knows of it, and that without empty values."""
    known = MessageToDict(ParseDict(document, pb.AgentCard(), ignore_unknown_fields=True))
    return list(dict.fromkeys(canonical(form) for form in (document, known, _without_empty(known))))


def canonical(value: Any) -> bytes:
    """JCS of what stands on cards: text, booleans, small numbers, and ASCII names, which sort alike in UTF-8 and UTF-16."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner for name, item in value.items() if (inner := _without_empty(item)) not in ("", [], {})}
    if isinstance(value, list):
        return [inner for item in value if (inner := _without_empty(item)) not in ("", [], {})]
    return value


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
