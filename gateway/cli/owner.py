"""The owners' JSON-RPC API, as the command sees it: a method's name and its parameters in, its result out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from gateway.cli.connection import Found, data_dir, find_key, find_url
from gateway.errors import NotAllowed

if TYPE_CHECKING:
    import httpx2

READ_SECONDS = 60.0
PIECE = 64 * 1024


class OwnerApi:
    def __init__(self, url: str | None, key: str | None) -> None:
        self.url = find_url(url)
        self.key = find_key(key, self.url)

    def call(self, method: str, **params: Any) -> Any:
        return self.wait_for(method, READ_SECONDS, params)

    def wait_for(self, method: str, seconds: float, params: dict[str, Any]) -> Any:
        """As `call`, where the gateway may take so many seconds."""
        from gateway.cli import wire

        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with wire.reaching(self.url), wire.open_client(self.url, self._headers(), seconds) as client:
            response = client.post(f"{self.url.value}/owner", json=request)
        if response.status_code == 401:
            raise _not_accepted(self.url, self.key)
        return wire.result_of(response)

    def download(self, path: str, params: dict[str, str]) -> Iterator[bytes]:
        """The body of an answer, as it comes."""
        from gateway.cli import wire

        with (
            wire.reaching(self.url),
            wire.open_client(self.url, self._headers(), READ_SECONDS) as client,
            client.stream("GET", f"{self.url.value}{path}", params=params) as response,
        ):
            self._check(response)
            yield from response.iter_bytes()

    def upload(self, path: str, params: dict[str, str], content: IO[bytes]) -> Any:
        """Send a body as it is read; what the gateway answers to it."""
        from gateway.cli import wire

        with wire.reaching(self.url), wire.open_client(self.url, self._headers(), None) as client:
            response = client.post(f"{self.url.value}{path}", params=params, content=iter(lambda: content.read(PIECE), b""))
            self._check(response)
        return response.json()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.value}"} if self.key else {}

    def _check(self, response: httpx2.Response) -> None:
        from gateway.cli import wire

        if response.status_code == 401:
            raise _not_accepted(self.url, self.key)
        if not response.is_success:
            response.read()
            raise wire.refusal(wire.json_of(response), response)


def _not_accepted(url: Found, key: Found | None) -> NotAllowed:
    where = f"Pass --key or SWITCHBOARD_OWNER_KEY; a gateway on this machine keeps it in {data_dir() / 'owner.key'}"
    if key is None:
        return NotAllowed(f"The gateway at {url.value} wants an owner key and none was found.", where)
    return NotAllowed(f"The gateway at {url.value} did not accept the owner key from {key.source}.", where)
