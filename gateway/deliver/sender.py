"""One POST to a webhook, over a connection that can only lead where the guard has looked.

httpcore2 is used bare: it follows no redirect, keeps no cookie and obeys no proxy of the environment, each of which
would lead past the guard. Names stay in Host and SNI, so certificates are checked against the name.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ssl
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import anyio
import httpcore2

from gateway.clock import now_us
from gateway.deliver.guard import Guard, Refused, Vetted
from gateway.dial import Pinned, trust

MAX_ANSWER = 64 * 1024  # bytes of an answer that are read; it is not looked at
GONE, BUSY = 410, (429, 503)
SECRET = "whsec_"


class Failed(Exception):
    """The delivery did not succeed. `final`: no other try will; `retry_after`: seconds before which none is wanted."""

    def __init__(self, reason: str, *, final: bool = False, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.final, self.retry_after = reason, final, retry_after


def pinned(vetted: Vetted) -> Pinned:
    """Dials the vetted addresses of one URL, and nothing else."""
    return Pinned(vetted.addresses, (vetted.url.raw_host.decode("ascii"), vetted.port))


class Sender:
    def __init__(self, guard: Guard, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._guard, self._seconds = guard, seconds
        self._tls = tls or trust()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raises Failed unless the receiver answers 2xx, whole and in time."""
        try:
            with anyio.fail_after(self._seconds):
                vetted = await self._guard.vet(url)
                status, retry_after = await self._post(vetted, headers, body)
        except TimeoutError as exc:
            raise Failed(f"No answer within {self._seconds:g} seconds.") from exc
        except Refused as exc:
            raise Failed(exc.detail) from exc
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as exc:
            raise Failed(f"{type(exc).__name__}: {exc}"[:300]) from exc
        if 300 <= status < 400:
            raise Failed(f"The receiver answered {status}: redirects are not followed.")
        if not 200 <= status < 300:
            raise Failed(f"The receiver answered {status}.", final=status == GONE, retry_after=retry_after)

    async def _post(self, vetted: Vetted, headers: Mapping[str, str], body: bytes) -> tuple[int, float]:
        """The answer's status, and for how many seconds it asks for peace."""
        url = vetted.url
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        named = {"Host": url.netloc.decode("ascii"), "Content-Length": str(len(body)), **headers}
        pool = httpcore2.AsyncConnectionPool(ssl_context=self._tls, network_backend=pinned(vetted))
        async with pool, pool.stream("POST", target, headers=list(named.items()), content=body) as response:
            size = 0
            async for piece in response.aiter_stream():
                size += len(piece)
                if size > MAX_ANSWER:
                    break
            status = int(response.status)
            return status, _retry_after(response.headers) if status in BUSY else 0


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Seconds (RFC 9110, section 10.2.3); 0 where nothing that makes sense was sent."""
    text = next((value.decode("latin-1") for name, value in headers if name.lower() == b"retry-after"), "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0
    return max(0.0, at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_us() / 1e6)


def signature(tokens: Iterable[str], id: str, at: int, body: bytes) -> str | None:
    """Standard Webhooks' signatures, one for each token that is a secret of theirs (`whsec_` and base64).

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    signed = b"%s.%d.%s" % (id.encode(), at, body)
    digests = [hmac.digest(key, signed, "sha256") for key in map(key_of, tokens) if key]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests) or None


def key_of(token: str) -> bytes | None:
    """The key in a Standard Webhooks secret."""
    if not token.startswith(SECRET):
        return None
    try:
        key = base64.b64decode(token.removeprefix(SECRET) + "==")
    except (binascii.Error, ValueError):
        return None
    return key or None
