"""The connection an engine turns into one of streams: what comes with its answer, what it refuses, and TLS."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker.client import DockerClient
from docker.errors import APIError, ImageNotFound
from docker.tls import TLSConfig

from adapters.launch.container import Engine, unreachable
from adapters.launch.frames import Attached
from adapters.launch.lines import Line
from adapters.launch.process import LaunchError
from adapters.launch.reaching import EngineGone
from adapters.launch.streams import connected
from tests.adapters.launch.test_frames import framed
from tests.certificates import Authority

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
Answers = Callable[[socket.socket, bytes], None]  # (connection, what was asked)


@contextmanager
def engine_that(answers: Answers, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of one that takes a single request."""

    def serve() -> None:
        connection, _ = listener.accept()
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        with connection:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(65_536)
            answers(connection, asked)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def client_of(port: int, tls: TLSConfig | None = None) -> DockerClient:
    return DockerClient(base_url=f"tcp://127.0.0.1:{port}", version="1.41", timeout=10, tls=tls or False)


async def test_what_comes_with_the_answer_is_not_lost() -> None:
    def answers(connection: socket.socket, asked: bytes) -> None:
        assert asked.startswith(b"POST /v1.41/containers/one/attach?stdin=1 HTTP/1.1\r\n")
        connection.sendall(UPGRADED + framed(1, b"first\n") + framed(1, b"sec"))
        connection.sendall(framed(1, b"ond\n"))

    with engine_that(answers) as port, anyio.fail_after(10):
        stream = await anyio.to_thread.run_sync(connected, client_of(port), "/containers/one/attach", {"stdin": 1})
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        attached = Attached(*stream)
        found: list[Line] = []
        while lines := await attached.batch():
            found += lines
    assert found == [Line(b"first"), Line(b"second")]


@pytest.mark.parametrize(
    ("status", "said", "kind"), [(409, "It is paused.", APIError), (404, "No such image: one", ImageNotFound)]
)
async def test_a_refusal_is_told_as_the_sdk_tells_it(status: int, said: str, kind: type[APIError]) -> None:
    def answers(connection: socket.socket, asked: bytes) -> None:
        body = json.dumps({"message": said}).encode()
        connection.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:5])
        connection.sendall(body[5:])

    with engine_that(answers) as port, anyio.fail_after(10), pytest.raises(kind) as refused:
        await anyio.to_thread.run_sync(connected, client_of(port), "/exec/one/start", None, {"Tty": False})
    assert (refused.value.status_code, refused.value.explanation) == (status, said)


async def test_under_tls_the_input_can_end_before_the_output(tmp_path: Path) -> None:
    authority = Authority.made(tmp_path / "ca")
    server, client = authority.signed("engine"), authority.signed("gateway")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server / "cert.pem", server / "key.pem")
    data = bytes(range(256)) * 8000

    def answers(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(UPGRADED + framed(1, b"early\n"))
        took = b""
        while piece := connection.recv(65_536):
            took += piece
        assert took == data
        for _ in range(200):
            connection.sendall(framed(1, b"x" * 9_999 + b"\n"))
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap()

    tls = TLSConfig((str(client / "cert.pem"), str(client / "key.pem")), str(client / "ca.pem"), verify=True)
    with engine_that(answers, context) as port, anyio.fail_after(20):
        stream = await anyio.to_thread.run_sync(connected, client_of(port, tls), "/containers/one/attach")
        attached = Attached(*stream)
        assert await attached.batch() == [Line(b"early")]
        await attached.write(data)
        await attached.half_close()
        found: list[Line] = []
        while lines := await attached.batch():
            found += lines
    assert found == [Line(b"x" * 9_999)] * 200


async def test_an_engine_that_is_too_old_is_told_of() -> None:
    def answers(connection: socket.socket, asked: bytes) -> None:
        body = json.dumps({"ApiVersion": "1.39", "Version": "18.09"}).encode()
        connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    with engine_that(answers) as port, anyio.fail_after(10):
        engine = Engine({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
        with pytest.raises(LaunchError, match=r"too old \(API 1.39\): API 1.41 is needed") as refused:
            await engine.labelled("none")
        engine.close()
    assert not isinstance(refused.value, EngineGone)


async def test_certificates_that_are_missing_are_told_of(tmp_path: Path) -> None:
    named = {"DOCKER_HOST": "tcp://127.0.0.1:9", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    assert "do not trust each other: Path to a certificate and key files" in await anyio.to_thread.run_sync(unreachable, named)
