"""Bearer tokens of an OpenID Connect issuer: signed with RS256 or ES256 by one of its published keys, for our audience.

The issuer's keys are fetched when the first token comes, again when a token names a key that is not known (at most
once a minute, whatever anybody sends), and once an hour so that a withdrawn key stops to hold. While the issuer does
not answer, keys that are known go on to hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
import structlog

from gateway.errors import Unavailable, UsageError, WrongKey

ALGORITHMS = ("RS256", "ES256")
LEEWAY_SECONDS = 30  # clocks differ
REFETCH_SECONDS = 60
KEEP_SECONDS = 3600
FETCH_SECONDS = 5.0
MAX_SUBJECT = 255  # OpenID Connect Core 1.0, section 2
DISCOVERY = "/.well-known/openid-configuration"

log_ = structlog.get_logger("switchboard.oidc")


class Oidc:
    def __init__(self, issuer: str, audience: str, jwks_url: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer, self.audience, self.jwks_url = issuer, audience, jwks_url
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._tried = self._fetched = float("-inf")
        self._fetching = anyio.Lock()

    async def subject(self, token: str) -> str:
        """The token's `sub`. Raises WrongKey, or Unavailable when the issuer has never told its keys."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise _wrong(f"it is not signed with {' or '.join(ALGORITHMS)}")
            return self._checked(token, await self._key(header.get("kid", "")))
        except (jwt.PyJWTError, ValueError) as exc:
            raise _wrong(str(exc)) from exc
        except RecursionError as exc:  # a header of nothing but brackets
            raise _wrong("it cannot be read") from exc

    def _checked(self, token: str, key: jwt.PyJWK) -> str:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )
        if not 0 < len(claims["sub"]) <= MAX_SUBJECT or not claims["sub"].isprintable():
            raise _wrong("its subject is empty or too long")
        return str(claims["sub"])

    async def _key(self, kid: str) -> jwt.PyJWK:
        if self._find(kid) is None or self._clock() - self._fetched >= KEEP_SECONDS:
            await self._refresh(kid)
        key = self._find(kid)
        if key is None and self._fetched == float("-inf"):
            raise Unavailable("Tokens cannot be checked now.", "Try again later.")
        if key is None:
            raise _wrong("it is signed with a key the issuer does not publish")
        return key

    def _find(self, kid: str) -> jwt.PyJWK | None:
        """A token without a key id is of the issuer's only key, if it has only one."""
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _refresh(self, kid: str) -> None:
        """Fetch the keys unless that was tried a moment ago. Those who come meanwhile wait only for a key they lack."""
        if self._fetching.locked() and self._find(kid) is not None:
            return
        async with self._fetching:
            never = self._fetched == float("-inf")
            if self._clock() - self._tried < (FETCH_SECONDS if never else REFETCH_SECONDS):
                return
            self._tried = self._clock()
            try:
                self._keys = usable(await self._fetch())
                self._fetched = self._clock()
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TimeoutError) as exc:
                log_.warning("oidc_keys_not_fetched", issuer=self.issuer, error=str(exc) or type(exc).__name__)

    async def _fetch(self) -> Any:
        with anyio.fail_after(2 * FETCH_SECONDS, shield=True):  # who hangs up must not spoil it for those who wait
            async with httpx2.AsyncClient(timeout=FETCH_SECONDS) as client:
                return await _json(client, self.jwks_url or await self._discover(client))

    async def _discover(self, client: httpx2.AsyncClient) -> str:
        found = await _json(client, discovery_url(self.issuer))
        if not isinstance(found, dict) or found.get("issuer") != self.issuer:
            raise ValueError(f"the discovery document is not of the issuer {self.issuer!r}")
        url = str(found.get("jwks_uri", ""))
        check_url("jwks_uri", url, secure=urlsplit(self.issuer).scheme == "https")
        return url


def load(issuer: str, audience: str, jwks_url: str) -> Oidc | None:
    """None where no issuer is set. Raises UsageError for settings that do not go together."""
    if not issuer and not audience and not jwks_url:
        return None
    if not issuer or not audience:
        missing = "SWITCHBOARD_OIDC_AUDIENCE" if issuer else "SWITCHBOARD_OIDC_ISSUER"
        raise UsageError(f"{missing} is not set.", "Set issuer and audience, or neither.")
    try:
        check_url("SWITCHBOARD_OIDC_ISSUER", issuer)
        if jwks_url:
            check_url("SWITCHBOARD_OIDC_JWKS_URL", jwks_url)
    except ValueError as exc:
        raise UsageError(f"{exc}.", "Write it as the issuer does, such as https://login.example.com") from exc
    return Oidc(issuer, audience, jwks_url)


def discovery_url(issuer: str) -> str:
    return issuer.rstrip("/") + DISCOVERY


def check_url(name: str, url: str, *, secure: bool = False) -> None:
    """Raises ValueError. Keys that anybody on the way can change prove nothing: plain HTTP only on this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local and not secure):
        raise ValueError(f"{name} {url!r} is no https URL")


def usable(jwks: Any) -> dict[str, jwt.PyJWK]:
    """The keys of a JWK set that can check our algorithms, by key id; others are left out, never an error."""
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list):
        raise ValueError("the key set has no list of keys")
    found: dict[str, jwt.PyJWK] = {}
    for item in listed:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig" or item.get("kty") not in ("RSA", "EC"):
            continue
        try:
            key = jwt.PyJWK(item)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in ALGORITHMS:
            found[str(item.get("kid", ""))] = key
    return found


async def _json(client: httpx2.AsyncClient, url: str) -> Any:
    response = await client.get(url)
    response.raise_for_status()
    return response.json()


def _wrong(why: str) -> WrongKey:
    return WrongKey(f"The token does not hold: {why}.", "Sign in again.")
