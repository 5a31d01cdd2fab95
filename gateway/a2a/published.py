"""Cards as callers get them: signed, with validators. Kept by face edition and key: a card is signed once."""

from __future__ import annotations

import json

from gateway.a2a import security
from gateway.a2a.cards import Face, Json, card, readable_by_03
from gateway.a2a.documents import Document
from gateway.a2a.signing import signed
from gateway.clock import now_us
from gateway.settings import Settings
from registry.signing import CardKeys

MAX_KEPT = 2048


class Cards:
    def __init__(self, settings: Settings, keys: CardKeys) -> None:
        self.settings, self.keys = settings, keys
        self._started = now_us()  # the settings that stand on cards hold since then
        self._kept: dict[tuple[str, int, str], Document] = {}

    def unsigned(self, face: Face) -> Json:
        """What the card says: of the face and the settings and nothing else, or it could not be kept."""
        return readable_by_03(self._card(face))

    def extended(self, face: Face) -> Json:
        """The signed card for callers who signed in. Raises ExtendedAgentCardNotConfiguredError."""
        return signed(security.extended(self._card(face), face), self.keys.current(), jwks_url(self.settings.url))

    def _card(self, face: Face) -> Json:
        return card(
            face,
            self.settings.url,
            self.settings.grpc_public_address,
            provider=self.settings.provider,
            security=security.declared(face, self.settings),
            extended=face.extended is not None,
        )

    def document(self, face: Face) -> Document:
        key = self.keys.current()
        place = (face.agent_id, face.edition, key.kid)
        if place not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            modified = max(face.updated_at, key.created_at, self._started)
            body = signed(self.unsigned(face), key, jwks_url(self.settings.url))
            self._kept[place] = Document.of(body, modified=modified)
        return self._kept[place]

    def json(self, face: Face) -> Json:
        found: Json = json.loads(self.document(face).data)
        return found

    def jwks(self) -> Document:
        keys = [key.jwk() for key in self.keys.published()]
        return Document.of({"keys": keys}, "application/jwk-set+json")


def jwks_url(origin: str) -> str:
    return f"{origin}/.well-known/jwks.json"
