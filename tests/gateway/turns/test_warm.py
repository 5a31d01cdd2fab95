"""Processes that stay for their session's next message.

[WARM-1]
"""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import anyio
import psutil

from adapters.launch.process import Warden
from gateway.turns.warm import Warm
from tests.gateway.turns.calls import calling, cancel, of_type, processes_of, speaks, state_of
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Json, serving, text_of

SECONDS = 30


async def processes(gateway: Client, session: str) -> list[psutil.Process]:
    return processes_of({event["turn_id"] for event in await gateway.events(session) if event["turn_id"]})


async def process(gateway: Client, session: str) -> int:
    """The one there is."""
    (found,) = await processes(gateway, session)
    return found.pid


async def until_gone(gateway: Client, session: str) -> None:
    while await processes(gateway, session):  # noqa: ASYNC110  (processes set no event)
        await anyio.sleep(0.02)


def kept(events: list[Json]) -> int:
    return sum(event["body"]["kind"] == "warm" for event in of_type(events, "notice"))


async def test_a_session_goes_on_with_its_process_until_the_time_is_over(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path, warm_seconds=1) as gateway:
            session = (await gateway.send("hello", "N=1 one"))["contextId"]
            first = await process(gateway, session)
            second = await gateway.send("hello", "N=1 two", contextId=session)
            assert text_of(second).startswith("Turn 2. Before this you said: N=1 one")
            assert await process(gateway, session) == first
            assert kept(await gateway.events(session)) == 1
            await until_gone(gateway, session)
            third = await gateway.send("hello", "N=1 three", contextId=session)
            assert text_of(third).startswith("Turn 3. Before this you said: N=1 two")
            assert kept(await gateway.events(session)) == 1
            left = await processes(gateway, session)
            assert left
    assert not any(process.is_running() for process in left)


async def test_by_default_none_stays(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path) as gateway:
            session = (await gateway.send("hello", "N=1 one"))["contextId"]
            await until_gone(gateway, session)


async def test_one_that_died_meanwhile_is_started_anew(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path, warm_seconds=60) as gateway:
            session = (await gateway.send("hello", "N=1 one"))["contextId"]
            (await processes(gateway, session))[0].send_signal(signal.SIGKILL)
            await until_gone(gateway, session)
            second = await gateway.send("hello", "N=1 two", contextId=session)
            events = await gateway.events(session)
    assert text_of(second).startswith("Turn 2.")
    assert [event["body"]["attempt"] for event in of_type(events, "turn_started")] == [1, 1]


async def test_a_turn_that_did_not_end_by_itself_keeps_nothing(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path, warm_seconds=60, stop_seconds=0.5) as gateway:
            session = (await gateway.send("hello", "N=1 one"))["contextId"]
            async with calling(gateway, "N=1000 D=5000", contextId=session) as call:
                await call.until(speaks)
                assert await processes(gateway, session)
                assert state_of((await cancel(gateway, call.task["id"]))["result"]) == "CANCELED"
                assert await processes(gateway, session) == []
            assert state_of(await gateway.send("hello", "N=1 FAIL=rate_limit", contextId=session)) == "FAILED"
            await until_gone(gateway, session)
            assert state_of(await gateway.send("hello", "N=1 three", contextId=session)) == "COMPLETED"


async def test_so_many_are_kept_and_the_oldest_goes(tmp_path: Path) -> None:
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path, warm_seconds=60, warm_processes=1) as gateway:
            first = (await gateway.send("hello", "N=1 one"))["contextId"]
            second = (await gateway.send("hello", "N=1 one"))["contextId"]
            await until_gone(gateway, first)
            assert await processes(gateway, second)


async def test_what_a_process_says_meanwhile_is_nobodys(tmp_path: Path) -> None:
    """More than a pipe holds, behind its `done`."""
    behind = [chunk(f"late {'x' * 4000}") for _ in range(50)]
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path, RUNTIMES, warm_seconds=60) as gateway:
            await gateway.owner("agent.create", name="mine", runtime="parrot")
            task = await gateway.send("mine", say(chunk("one"), DONE, *behind, ["touch", "said"]))
            session = task["contextId"]
            while not (tmp_path / "sessions" / session / "work" / "said").exists():  # noqa: ASYNC110
                await anyio.sleep(0.02)
            second = await gateway.send("mine", say(chunk("two"), DONE), contextId=session)
            assert kept(await gateway.events(session)) == 1
    assert (text_of(task), text_of(second)) == ("one", "two")


async def test_where_journals_are_copied_none_stays(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with anyio.fail_after(SECONDS):
        async with serving(tmp_path / "data", warm_seconds=60, journals_dir=tmp_path / "shared") as gateway:
            session = (await gateway.send("hello", "N=1 one"))["contextId"]
            await until_gone(gateway, session)


async def test_one_that_another_worker_of_the_machine_kept_is_ended_before_the_next_turn_begins() -> None:
    warden, other = Warden(), Warm(60, 1, grace=1)
    with anyio.fail_after(SECONDS):
        await warden.start()
        try:
            tag = f"trn_{secrets.token_hex(4)}"
            argv = ["sh", "-c", "echo up; exec sleep 600"]
            kept = await warden.spawn(argv, env={"PATH": os.environ["PATH"]}, cwd="/", tag=tag)
            assert await kept.lines()
            assert await other.take("ses_1", "1", None) is None
            assert not kept.has_ended
            assert await other.take("ses_1", "1", tag) is None
            await kept.wait()
            await kept.aclose()
        finally:
            await warden.aclose()
