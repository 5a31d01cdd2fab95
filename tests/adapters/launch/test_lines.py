"""Lines of any length and content, from real pipes."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from adapters.launch.lines import Line, LineReader, Splitter, Tail


@contextmanager
def piped(*, limit: int = 4096) -> Iterator[tuple[LineReader, int]]:
    source, sink = os.pipe()
    os.set_blocking(source, False)
    reader = LineReader(source, limit=limit)
    try:
        yield reader, sink
    finally:
        reader.close()
        with_closed(sink)


def with_closed(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass


async def rest(reader: LineReader) -> list[Line]:
    lines: list[Line] = []
    with anyio.fail_after(10):
        while batch := await reader.batch():
            lines += batch
    return lines


async def test_everything_complete_comes_in_one_batch_and_the_rest_waits() -> None:
    with piped() as (reader, sink):
        os.write(sink, b"one\ntwo\n\nthr")
        assert await reader.batch() == [Line(b"one"), Line(b"two"), Line(b"")]
        os.write(sink, b"ee\n")
        assert await reader.batch() == [Line(b"three")]


async def test_a_last_line_without_newline_is_returned_at_the_end() -> None:
    with piped() as (reader, sink):
        os.write(sink, b"one\ntwo")
        os.close(sink)
        assert await rest(reader) == [Line(b"one"), Line(b"two")]
        assert await reader.batch() == []


async def test_an_empty_stream_has_no_lines() -> None:
    with piped() as (reader, sink):
        os.close(sink)
        assert await reader.batch() == []


async def test_only_a_newline_ends_a_line() -> None:
    text = "a\u2028b\u2029c\u0085d\re\x0bf\x0cg\x1ch\x00i".encode()
    with piped() as (reader, sink):
        os.write(sink, text + b"\n")
        assert await reader.batch() == [Line(text)]


async def test_a_code_point_split_between_two_writes_stays_whole() -> None:
    text = "häß🦜".encode()
    with piped() as (reader, sink), anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(write_bytewise, sink, text + b"\n")
            assert await reader.batch() == [Line(text)]


async def write_bytewise(sink: int, data: bytes) -> None:
    for byte in data:
        os.write(sink, bytes([byte]))
        await anyio.lowlevel.checkpoint()


async def test_a_line_over_the_limit_keeps_its_beginning_and_the_next_line_is_whole() -> None:
    with piped(limit=10) as (reader, sink):
        os.write(sink, b"0123456789\n0123456789x\nnext\n" + b"y" * 30)
        os.close(sink)
        assert await rest(reader) == [
            Line(b"0123456789"),
            Line(b"0123456789", truncated=True),
            Line(b"next"),
            Line(b"y" * 10, truncated=True),
        ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_the_size_of_the_chunks_changes_nothing(size: int) -> None:
    data = b"a\n\nbcdef\n" + b"x" * 9 + b"\n" + b"y" * 8 + b"\nlast"
    splitter = Splitter(limit=8)
    lines = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
    assert lines + splitter.end() == [
        Line(b"a"),
        Line(b""),
        Line(b"bcdef"),
        Line(b"x" * 8, truncated=True),
        Line(b"y" * 8),
        Line(b"last"),
    ]


async def test_a_line_of_50_mb_is_read_in_flat_memory() -> None:
    with piped(limit=1024 * 1024) as (reader, sink):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer = threading.Thread(target=write_50_mb, args=(sink,))
        writer.start()
        lines = await rest(reader)
        writer.join()
    assert lines == [Line(b"x" * 1024 * 1024, truncated=True), Line(b"end")]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB


def write_50_mb(sink: int) -> None:
    with open(sink, "wb") as file:
        for _ in range(800):
            file.write(b"x" * 64 * 1024)
        file.write(b"\nend\n")


async def test_nothing_is_read_before_it_is_asked_for() -> None:
    with piped() as (reader, sink):
        os.set_blocking(sink, False)
        written = fill(sink)
        await anyio.lowlevel.checkpoint()
        assert fill(sink) == 0
        os.close(sink)
        assert sum(len(line.data) + 1 for line in await rest(reader)) == written


def fill(sink: int) -> int:
    written = 0
    while True:
        try:
            written += os.write(sink, b"x" * 1023 + b"\n")
        except BlockingIOError:
            return written


async def test_a_canceled_reader_loses_nothing() -> None:
    with piped() as (reader, sink):
        os.write(sink, b"half")
        with anyio.move_on_after(0.01) as scope:
            await reader.batch()
        assert scope.cancelled_caught
        os.write(sink, b" and half\n")
        assert await reader.batch() == [Line(b"half and half")]


async def test_closing_ends_a_waiting_reader() -> None:
    with piped() as (reader, _):
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(close_soon, reader)
                assert await reader.batch() == []


async def close_soon(reader: LineReader) -> None:
    reader.close()


async def test_a_second_reader_at_the_same_time_is_refused() -> None:
    with piped() as (reader, _):
        async with anyio.create_task_group() as group:
            group.start_soon(reader.batch)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await reader.batch()
            group.cancel_scope.cancel()


async def test_finish_reads_what_is_there_and_does_not_wait_for_other_writers() -> None:
    with piped() as (reader, sink):
        os.write(sink, b"one\ntwo")
        reader.finish()
        os.write(sink, b" by somebody else\n")
        assert await rest(reader) == [Line(b"one"), Line(b"two")]


async def test_the_tail_keeps_the_last_bytes_and_no_broken_code_point() -> None:
    source, sink = os.pipe()
    os.set_blocking(source, False)
    tail = Tail(source, limit=8)
    os.write(sink, "begin 🦜🦜 end".encode())
    os.close(sink)
    tail.finish()
    assert tail.text() == "🦜 end"[-5:].lstrip("\ufffd")


async def test_the_tail_drains_a_pipe_nobody_asks_for() -> None:
    source, sink = os.pipe()
    os.set_blocking(source, False)
    tail = Tail(source)
    thread = threading.Thread(target=write_50_mb, args=(sink,))
    thread.start()
    with anyio.fail_after(10):
        await anyio.to_thread.run_sync(thread.join)
    tail.finish()
    assert tail.text() == "x" * (64 * 1024 - 5) + "\nend\n"
