"""What tools make of names, lines and edits, in which quantity ever: the gateway does other things meanwhile. [HAND-11]"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from adapters.launch.reading import Ran
from gateway.hands import acts
from gateway.hands.acts import Command, act
from gateway.hands.tools import MAX_FILE, Edit, Glob, Grep, Input, Replacement, Result


def says(*printed: bytes) -> acts.Run:
    """Whatever is to run prints these, one after another."""
    left = list(printed)

    async def run(command: Command) -> Ran:
        return Ran(left.pop(0), code=0)

    return run


async def beside(do: Callable[[], Awaitable[Result]]) -> tuple[Result, int]:
    """What it answers, and how often the event loop came round meanwhile."""
    found: list[Result] = []
    rounds = 0

    async def one() -> None:
        found.append(await do())

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        while not found:
            await anyio.lowlevel.checkpoint()
            rounds += 1
    return found[0], rounds


async def acted(input: Input, *printed: bytes) -> Result:
    """It is worked on beside the event loop, which would come round a few times otherwise."""
    result, rounds = await beside(lambda: act(says(*printed), input, anyio.Lock()))
    assert rounds > 20
    return result


async def test_a_listing_is_searched_for_a_pattern_with_many_stars() -> None:
    names = [b"./" + b"a" * 120 + str(n).encode() for n in range(3000)]
    result = await acted(Glob(pattern="*a*a*a*a*b"), b"\0".join(names))
    assert result == Result("")


async def test_of_many_names_and_lines_the_first_are_told_and_the_others_counted() -> None:
    names = b"".join(b"./d/%07d.py\0" % n for n in reversed(range(5_000)))
    found = await acted(Glob(pattern="**/*.py"), names)
    assert found.output.splitlines()[:1] == ["d/0000000.py"]
    assert found.output.splitlines()[-2:] == ["d/0001999.py", "[... 3000 more]"]
    assert found.truncated
    lines = b"".join(b"./d/%d.py:7:x\n./d/%d.txt:1:x\n" % (n, n) for n in range(3_000))
    told = await acted(Grep(pattern="x", glob="*.py"), lines)
    assert told.output.splitlines()[:1] == ["d/0.py:7:x"]
    assert told.output.splitlines()[-1:] == ["[... 1000 more]"]


async def test_edits_of_a_large_file_are_made_beside_everything_else() -> None:
    content = b"".join(b"<%d>" % n for n in range(50)) + b"x" * 5_000_000
    edits = [Replacement(old=f"<{n}>", new="") for n in range(50)]
    result = await acted(Edit(path="f", edits=edits), content, b"")
    assert result.output == "50 texts replaced in f."


async def test_more_edits_than_can_be_made_soon_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "EDITED", 10 * MAX_FILE)
    content = b"".join(b"<%d>" % n for n in range(1000)).ljust(MAX_FILE, b"x")
    edits = [Replacement(old=f"<{n}>", new=f"[{n}]") for n in range(1000)]
    result = await acted(Edit(path="f", edits=edits), content)
    assert result.is_error
    assert "too many at once" in result.output
