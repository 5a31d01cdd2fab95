"""HTTP for the command: one client, foreign exceptions translated at this border, error bodies read back into our tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from gateway.cli.connection import Found, is_local
from gateway.errors import TABLE, SwitchboardError, Unavailable

CONNECT_SECONDS = 5.0
_AWAY = (502, 503, 504)  # what the gateway or a proxy before it answers while it restarts
_CODE_OF_STATUS = dict.fromkeys(_AWAY, "unavailable") | {
    401: "not_allowed",
    403: "not_allowed",
    404: "not_found",
    409: "conflict",
    413: "too_large",
}
# A2A's own codes (spec section 5.4) for which we have a word; anything else is an internal error.
_CODE_OF_JSONRPC = {codes.jsonrpc: code for code, codes in reversed(TABLE.items())} | {
    -32602: "invalid_params",
    -32001: "not_found",
}


class Refused(SwitchboardError):
    """What the gateway answered, under the gateway's own code."""

    def __init__(self, code: Any, message: str, hint: str = "", *, number: int | None = None) -> None:
        super().__init__(message, hint)
        self.code = code if code in TABLE else "internal_error"
        self.number = number


def open_client(url: Found, headers: Mapping[str, str], read_seconds: float | None) -> httpx2.Client:
    """A proxy from the environment is never asked for this machine's own gateway."""
    timeout = httpx2.Timeout(read_seconds, connect=CONNECT_SECONDS)
    return httpx2.Client(headers=dict(headers), timeout=timeout, trust_env=not is_local(url.value))


@contextmanager
def reaching(url: Found) -> Iterator[None]:
    """Inside, whatever goes wrong on the way to the gateway leaves as Unavailable."""
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as exc:
        raise unreachable(url) from exc
    except httpx2.TimeoutException as exc:
        raise Unavailable(
            f"The gateway at {url.value} did not answer in time.", "Try again, or run: switchboard doctor"
        ) from exc
    except (httpx2.TransportError, httpx2.InvalidURL) as exc:
        raise Unavailable(f"The connection to {url.value} failed: {exc}.", "Try again, or run: switchboard doctor") from exc


def unreachable(url: Found) -> Unavailable:
    return Unavailable(f"No gateway answers at {url.value} (from: {url.source}).", "Start it with: switchboard serve")


def result_of(response: httpx2.Response) -> Any:
    """The result of a JSON-RPC answer, or what it says went wrong."""
    body = json_of(response)
    if response.is_success and isinstance(body, dict) and "result" in body:
        return body["result"]
    raise refusal(body, response)


def refusal(body: Any, response: httpx2.Response) -> Refused:
    """An answer that is no result, as an error: JSON-RPC, our own HTTP shape, or something that is no gateway."""
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return _of_jsonrpc(body["error"])
    code = _CODE_OF_STATUS.get(response.status_code)
    if isinstance(body, dict) and "message" in body:
        return Refused(body.get("code", code), str(body["message"]), str(body.get("hint") or ""))
    what = f"{response.request.url} answered HTTP {response.status_code}"
    if response.is_server_error:
        return Refused(code, f"{what}.", "The gateway's log says why; try again, or run: switchboard doctor")
    return Refused(
        code, f"{what}, which is not what a gateway answers.", "Check the URL: --url, SWITCHBOARD_URL or switchboard.toml"
    )


def _of_jsonrpc(error: dict[str, Any]) -> Refused:
    data, number = error.get("data"), error.get("code")
    number = number if isinstance(number, int) else None
    if isinstance(data, dict) and "code" in data:
        return Refused(
            data["code"], str(data.get("message") or error.get("message")), str(data.get("hint") or ""), number=number
        )
    return Refused(_CODE_OF_JSONRPC.get(number or 0), str(error.get("message") or error), number=number)


def json_of(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
