"""What an engine sends of a container's streams, in whatever pieces it comes."""

from __future__ import annotations

import socket

import anyio
from hypothesis import given
from hypothesis import strategies as st

from adapters.launch.frames import Attached, Frames
from adapters.launch.lines import Line

PIECES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)))


def framed(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(PIECES, st.integers(1, 50))
def test_frames_are_put_together_wherever_they_were_cut(pieces: list[tuple[int, bytes]], size: int) -> None:
    sent = b"".join(framed(*piece) for piece in pieces)
    frames = Frames()
    told = [found for start in range(0, len(sent), size) for found in frames.feed(sent[start : start + size])]
    for stream in (1, 2):
        assert b"".join(data for of, data in told if of == stream) == b"".join(data for of, data in pieces if of == stream)


async def test_both_streams_come_through_one_connection_and_its_end_is_theirs() -> None:
    ours, theirs = socket.socketpair()
    attached = Attached(ours)
    with theirs, anyio.fail_after(10):
        theirs.sendall(framed(1, b"one\ntw") + framed(2, b"trouble") + framed(1, b"o\nrest"))
        theirs.shutdown(socket.SHUT_WR)
        assert await attached.batch() == [Line(b"one"), Line(b"two")]
        await attached.write(b"in\n")
        await attached.half_close()
        assert theirs.recv(10) == b"in\n"
        assert theirs.recv(10) == b""
        assert await attached.batch() == [Line(b"rest")]
        assert await attached.batch() == []
    assert attached.at_end
    assert attached.stderr_tail() == "trouble"


async def test_writing_to_a_container_that_is_gone_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    attached = Attached(ours)
    theirs.close()
    with anyio.fail_after(10):
        await attached.write(b"x" * 10_000_000)
        assert await attached.batch() == []
