"""The relay as the neighbour of a container: alone, and for bytes both ways."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import anyio.abc

from adapters.launch import relay
from adapters.launch.process import Warden
from tests.support import free_port


async def test_it_hands_connections_over_and_says_when_a_side_is_done(tmp_path: Path, warden: Warden) -> None:
    port = free_port()
    argv = [sys.executable, "-I", "-S", relay.__file__, f"{port}=egress.sock"]
    async with await anyio.create_unix_listener(tmp_path / "egress.sock") as listener:
        process = await warden.spawn(argv, env={}, cwd=str(tmp_path), tag="relay")
        with anyio.fail_after(20):
            ours, theirs = await connected(port), await listener.accept()
            async with ours, theirs:
                await ours.send(b"question" * 10_000)
                await ours.send_eof()
                assert await everything(theirs) == b"question" * 10_000
                await theirs.send(b"answer")
                await theirs.send_eof()
                assert await everything(ours) == b"answer"
        await process.stop(grace=0)
        await process.aclose()


async def connected(port: int) -> anyio.abc.ByteStream:
    while True:
        try:
            return await anyio.connect_tcp("127.0.0.1", port)
        except OSError:
            await anyio.sleep(0.02)


async def everything(stream: anyio.abc.ByteStream) -> bytes:
    return b"".join([piece async for piece in stream])


async def test_where_nobody_listens_a_connection_just_ends(tmp_path: Path, warden: Warden) -> None:
    port = free_port()
    argv = [sys.executable, "-I", "-S", relay.__file__, f"{port}=none.sock"]
    process = await warden.spawn(argv, env={}, cwd=str(tmp_path), tag="relay")
    with anyio.fail_after(20):
        async with await connected(port) as ours:
            assert await everything(ours) == b""
    await process.stop(grace=0)
    await process.aclose()


async def test_it_serves_several_ports_and_ends_with_whoever_started_it(tmp_path: Path, warden: Warden) -> None:
    ports = free_port(), free_port()
    ways = ",".join(f"{port}={name}.sock" for port, name in zip(ports, ("one", "two"), strict=True))
    process = await warden.spawn([sys.executable, "-I", "-S", relay.__file__, ways], env={}, cwd=str(tmp_path), tag="relay")
    async with (
        await anyio.create_unix_listener(tmp_path / "one.sock") as one,
        await anyio.create_unix_listener(tmp_path / "two.sock") as two,
    ):
        with anyio.fail_after(20):
            assert [line.data for line in await process.lines()] == [b"listens"]
            for port, listener in zip(ports, (one, two), strict=True):
                async with await anyio.connect_tcp("127.0.0.1", port) as ours, await listener.accept() as theirs:
                    await ours.send(str(port).encode())
                    assert await theirs.receive() == str(port).encode()
            await process.close_stdin()
            assert (await process.wait()).code == 0
    await process.aclose()
