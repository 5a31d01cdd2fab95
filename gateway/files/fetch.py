"""Fetches the file a `url` part names, over connections that can only lead where the guard has looked.

Each redirect is vetted like the first URL. Size and time are bounded, and what callers are told of a failure says
nothing of the network in here.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

import anyio
import httpcore2

from gateway.deliver.guard import Guard, Refused, Vetted
from gateway.deliver.sender import pinned
from gateway.dial import trust
from gateway.errors import InvalidParams

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
AT_ONCE = 16  # files fetched at the same time
_ASKED = {"User-Agent": "switchboard", "Accept": "*/*", "Accept-Encoding": "identity"}
Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the answer says of the file. `name` is the last piece of the URL's path."""

    media_type: str
    name: str


class Fetcher:
    def __init__(self, guard: Guard, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._guard, self._seconds = guard, seconds
        self._tls = tls or trust()
        self._at_once = anyio.CapacityLimiter(AT_ONCE)

    async def fetch(self, url: str, limit: int, write: Write) -> Fetched:
        """Hand the file to `write` in pieces, at most `limit` bytes. Raises InvalidParams."""
        try:
            async with self._at_once:
                with anyio.fail_after(self._seconds):
                    return await self._follow(url, limit, write)
        except Refused as exc:
            raise _failed(exc.told) from exc
        except TimeoutError as exc:
            raise _failed(f"It took longer than {self._seconds:g} seconds.") from exc
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as exc:
            raise _failed("It could not be reached.") from exc

    async def _follow(self, url: str, limit: int, write: Write) -> Fetched:
        for _ in range(MAX_REDIRECTS + 1):
            vetted = await self._guard.vet(url)
            found = await self._get(vetted, limit, write)
            if isinstance(found, Fetched):
                return found
            url = _next(str(vetted.url), found)
        raise _failed(f"It led on more than {MAX_REDIRECTS} times.")

    async def _get(self, vetted: Vetted, limit: int, write: Write) -> Fetched | str:
        """The file, or where the answer redirects to."""
        url = vetted.url
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = {"Host": url.netloc.decode("ascii"), **_ASKED}
        pool = httpcore2.AsyncConnectionPool(ssl_context=self._tls, network_backend=pinned(vetted))
        async with pool, pool.stream("GET", target, headers=list(headers.items())) as response:
            said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            if response.status in REDIRECTS and "location" in said:
                return said["location"]
            _check(response.status, said, limit)
            size = 0
            async for piece in response.aiter_stream():
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                await write(piece)
        return Fetched(said.get("content-type", ""), unquote(urlsplit(str(url)).path.rpartition("/")[2]))


def _next(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as exc:  # of brackets that hold no address
        raise _failed("It led on to what is no URL.") from exc


def _check(status: int, said: Mapping[str, str], limit: int) -> None:
    if status != 200:
        raise _failed(f"The answer was {status}.")
    if said.get("content-encoding", "identity").lower() != "identity":
        raise _failed("The answer is compressed, which was not asked for.")
    length = said.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> InvalidParams:
    return _failed(f"It is larger than {limit} bytes.")


def _failed(why: str) -> InvalidParams:
    return InvalidParams(f"The file of a url part could not be fetched. {why}", "Send its bytes as a raw part.")
