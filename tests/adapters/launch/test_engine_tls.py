"""A real engine that speaks TLS only, and only to whom it trusts; found by the variables every client of it knows. [BOX-10]"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from adapters.launch.container import Box, Engine, unreachable
from adapters.launch.hands import Quarters, Room
from adapters.launch.lines import Line
from adapters.launch.reading import Ends
from tests.certificates import Authority
from tests.doorway import doorway
from tests.engines import IMAGE, own_engine

SECONDS = 60
PORT = 2376
DATA = bytes(range(256)) * 999

Environ = Mapping[str, str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def environ(authority: Authority) -> Iterator[Environ]:
    """As the gateway of an engine that is somewhere else has it."""
    server = authority.signed("engine")
    files = {"cacert": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
    trust = " ".join(f"--tls{name}={server / file}" for name, file in files.items())
    with own_engine(more=f"--host=tcp://127.0.0.1:{PORT} --tlsverify {trust}") as own, doorway(own.pid, PORT) as port:
        client = authority.signed("gateway")
        yield {"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(client)}


@pytest.fixture
async def engine(environ: Environ) -> AsyncIterator[Engine]:
    engine = Engine(environ)
    yield engine
    engine.close()


def box(folder: Path, *argv: str) -> Box:
    return Box(IMAGE, argv, {"WORD": "said"}, str(folder), (str(folder),), {"switchboard.test": "tls"}, user="0:0")


async def test_a_container_is_spoken_to_through_tls(engine: Engine, tmp_path: Path) -> None:
    """All it prints, while it is written to; and its input ends before its output."""
    script = 'while IFS= read -r line; do echo "$WORD $line"; done; echo the end; echo aside >&2; exit 3'
    with anyio.fail_after(SECONDS):
        container = await engine.spawn(box(tmp_path, "sh", "-c", script))
        try:
            found: list[Line] = []

            async def write() -> None:
                for number in range(2000):
                    await container.write(f"{number} {'x' * 200}\n".encode())
                await container.close_stdin()

            async with anyio.create_task_group() as group:
                group.start_soon(write)
                while lines := await container.lines():
                    found += lines
            exited = await container.wait()
        finally:
            await container.aclose()
    assert [line.data for line in found] == [f"said {n} {'x' * 200}".encode() for n in range(2000)] + [b"the end"]
    assert (exited.code, container.stderr_tail().strip()) == (3, "aside")


async def test_a_container_is_stopped_through_tls(engine: Engine, tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        container = await engine.spawn(box(tmp_path, "sh", "-c", "echo up; exec sleep 300"))
        assert await container.lines() == [Line(b"up")]
        exited = await container.stop(grace=0.2)
        await container.aclose()
    assert exited.code in (137, 143)


async def test_a_sandbox_works_through_tls(engine: Engine, tmp_path: Path) -> None:
    room = Room(engine, Quarters("switchboard-tls", box(tmp_path)))
    with anyio.fail_after(SECONDS):
        try:
            ran = await room.run(("sh", "-c", "cat; exit 4"), seconds=20, keep=Ends(10**6, 10**6), content=DATA)
            late = await room.run(("sleep", "300"), seconds=0.2, keep=Ends(9, 9), mark="late")
        finally:
            await room.remove()
    assert (ran.first, ran.code, ran.cause) == (DATA, 4, "")
    assert (late.code, late.cause) == (None, "timeout")


async def why(environ: Environ, **changed: str) -> str:
    return await anyio.to_thread.run_sync(unreachable, {**environ, **changed})


async def test_wrong_certificates_are_told_apart_from_an_engine_that_is_away(
    environ: Environ, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.made(tmp_path / "stranger").signed("gateway")
    (mixed := tmp_path / "mixed").mkdir()
    for name in ("cert.pem", "key.pem"):
        (mixed / name).write_bytes((stranger / name).read_bytes())
    (mixed / "ca.pem").write_bytes((authority.folder / "ca.pem").read_bytes())
    with anyio.fail_after(SECONDS):
        assert await why(environ) == ""
        for wrong in (stranger, mixed):
            said = await why(environ, DOCKER_CERT_PATH=str(wrong))
            assert "do not trust each other" in said
            assert "Look at DOCKER_CERT_PATH" in said
        elsewhere = await why(environ, DOCKER_HOST=environ["DOCKER_HOST"].replace("127.0.0.1", "localhost"))
        plain = await why({"DOCKER_HOST": environ["DOCKER_HOST"]})
    assert "do not trust each other" in elsewhere
    assert "speaks TLS only. Set DOCKER_TLS_VERIFY=1" in plain
