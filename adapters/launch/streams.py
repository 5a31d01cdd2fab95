"""A connection that the engine turns into one of streams, over a Unix socket, TCP, or TLS.

The request is made here and not by the SDK: of what comes in one piece with the answer it loses what it has read too much,
and its sockets under TLS cannot be read beside being written.

    Stream      the connection, what came with the answer, and its seal where it is encrypted
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EPROTONOSUPPORT
from http.client import HTTPMessage, parse_headers
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import requests
from docker.client import DockerClient
from docker.errors import create_api_error_from_http_exception

from adapters.launch.seal import Seal, some
from adapters.launch.warden import LaunchError

LONGEST = 2**20  # bytes of an answer that is no stream
OPEN = (101, 200)  # the answers that are followed by streams
# An engine whose machine is gone says nothing any more: after half a minute of that the streams end.
_OPTIONS = {"TCP_NODELAY": 1, "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # where the system has them
_END = b"\r\n\r\n"


class Stream(NamedTuple):
    socket: socket.socket
    early: bytes = b""
    seal: Seal | None = None


def connected(
    client: DockerClient,
    path: str,
    params: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    last: Callable[[], None] = lambda: None,
) -> Stream:
    """Post, and take the connection over. Raises APIError where the engine refuses, OSError where it does not answer.

    `last` is called when all but the posting is done; what it raises is raised, and nothing is posted.
    """
    content = b"" if body is None else json.dumps(body).encode()
    address = f"/v{client.api.api_version}{path}{'?' + urlencode(params) if params else ''}"
    lines = [f"POST {address} HTTP/1.1", "Host: engine", "Connection: Upgrade", "Upgrade: tcp"]
    lines += ["Content-Type: application/json"] if body is not None else []
    request = "\r\n".join([*lines, f"Content-Length: {len(content)}"]).encode() + _END + content
    connection, seal = _reached(client)
    try:
        last()
        connection.sendall(seal.sealed(request) if seal else request)
        head, early = _answer(connection, seal)
        status = int(head.split(None, 2)[1])
        if status in OPEN:
            return Stream(connection, early, seal)
        fields = parse_headers(BytesIO(head.partition(b"\r\n")[2] + _END))
        raise _refusal(status, _rest(connection, seal, early, fields), client.api.base_url + path)
    except BaseException:
        connection.close()
        raise


def _reached(client: DockerClient) -> tuple[socket.socket, Seal | None]:
    api = client.api
    base, timeout = urlsplit(api.base_url), api.timeout
    if base.scheme not in ("http", "https"):
        path = getattr(api.get_adapter(api.base_url), "socket_path", None)
        if path is None:
            said = "Containers are spoken to over a Unix socket, TCP or TLS"
            raise LaunchError(EPROTONOSUPPORT, f"{said}: let DOCKER_HOST name a tunnel to the engine (ssh -L).")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return connection, None
    host = base.hostname or ""
    connection = socket.create_connection((host, base.port or 80), timeout)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _OPTIONS.items():
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        seal = Seal(_context(api), host) if base.scheme == "https" else None
        if seal:
            seal.shake_hands(connection)
    except BaseException:
        connection.close()
        raise
    return connection, seal


def _context(api: Any) -> ssl.SSLContext:
    """As the SDK was told to trust, and to be trusted."""
    context = ssl.create_default_context(cafile=api.verify if isinstance(api.verify, str) else None)
    if not api.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if api.cert:
        context.load_cert_chain(*api.cert)
    return context


def _more(connection: socket.socket, seal: Seal | None) -> bytes:
    found = some(connection)
    return seal.opened(found) if seal else found


def _answer(connection: socket.socket, seal: Seal | None) -> tuple[bytes, bytes]:
    """The answer's head, and what came after it."""
    found = b""
    while _END not in found:
        if len(found) > LONGEST or (seal and seal.over):
            raise ConnectionResetError("Its answer is no HTTP.")
        found += _more(connection, seal)
    head, _, early = found.partition(_END)
    return head, early


def _rest(connection: socket.socket, seal: Seal | None, early: bytes, fields: HTTPMessage) -> bytes:
    found = early
    length = min(int(fields.get("Content-Length") or 0), LONGEST)
    with suppress(ConnectionResetError):
        while len(found) < length:
            found += _more(connection, seal)
    return found


def _refusal(status: int, body: bytes, url: str) -> Exception:
    """As the SDK raises it."""
    response = requests.Response()
    response.status_code, response._content, response.url = status, body, url
    try:
        create_api_error_from_http_exception(requests.HTTPError(f"{status} for {url}", response=response))
    except Exception as exc:
        return exc
    raise AssertionError(url)
