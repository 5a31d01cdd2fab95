"""The owners' JSON-RPC API, as the command sees it: a method's name and its parameters in, its result out."""

from __future__ import annotations

from typing import Any

from gateway.cli.connection import Found, data_dir, find_key, find_url
from gateway.errors import NotAllowed

READ_SECONDS = 60.0


class OwnerApi:
    def __init__(self, url: str | None, key: str | None) -> None:
        self.url = find_url(url)
        self.key = find_key(key, self.url)

    def call(self, method: str, **params: Any) -> Any:
        from gateway.cli import wire

        headers = {"Authorization": f"Bearer {self.key.value}"} if self.key else {}
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with wire.reaching(self.url), wire.open_client(self.url, headers, READ_SECONDS) as client:
            response = client.post(f"{self.url.value}/owner", json=request)
        if response.status_code == 401:
            raise _not_accepted(self.url, self.key)
        return wire.result_of(response)


def _not_accepted(url: Found, key: Found | None) -> NotAllowed:
    where = f"Pass --key or SWITCHBOARD_OWNER_KEY; a gateway on this machine keeps it in {data_dir() / 'owner.key'}"
    if key is None:
        return NotAllowed(f"The gateway at {url.value} wants an owner key and none was found.", where)
    return NotAllowed(f"The gateway at {url.value} did not accept the owner key from {key.source}.", where)
