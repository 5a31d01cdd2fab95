"""Calls of the sandbox's tools are recorded: each runs once, whoever dies when."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import anyio
import pytest
from anyio import from_thread

from adapters.launch.container import Engine
from gateway.errors import CallReused, Fenced, SwitchboardError
from gateway.hands.service import CANCELLED, INTERRUPTED, NO_ENGINE, Hands
from gateway.hands.tools import Result
from tests import needs
from tests.gateway.hands.stage import SECONDS, Brain, Stage, staged, worker

GROWS = "echo ran >> ran; wc -l < ran"


@pytest.fixture
async def stage(tmp_path: Path, database_url: str) -> AsyncIterator[Stage]:
    async with staged(tmp_path, needs.an_engine(), database_url) as stage:
        yield stage


async def until(made: Path) -> None:
    """A file that a command makes is there."""
    with anyio.fail_after(SECONDS):
        while not await anyio.Path(made).exists():  # noqa: ASYNC110  (nobody tells)
            await anyio.sleep(0.02)


async def running(stage: Stage, brain: Brain, command: str) -> str:
    return (await stage.call(brain, "bash", command=f"ps -e -o args | grep -cx '{command}'")).output.strip()


async def test_a_call_is_told_under_its_canonical_name_and_recorded(stage: Stage) -> None:
    """[HAND-4]"""
    brain = await stage.begin()
    await stage.call(brain, "write", "w", path="a", content="x" * 40_000)
    await stage.call(brain, "bash", "b", command="cat b", timeout_ms=5000)
    events = await stage.events(brain, "tool_start", "tool_result")
    told = [(one["type"], one.get("tool"), one.get("exit_code"), one.get("is_error")) for one in events]
    assert told == [
        ("tool_start", "write_file", None, None),
        ("tool_result", None, None, False),
        ("tool_start", "shell", None, None),
        ("tool_result", None, 1, True),
    ]
    assert events[0]["input"]["content"].endswith("[... 10000 characters more]")
    assert events[2]["input"] == {"command": "cat b", "timeout_ms": 5000}
    assert events[3]["output"] == "cat: b: No such file or directory"
    assert [(row.call_id, row.tool, row.result is not None) for row in await stage.rows()] == [
        ("w", "write", True),
        ("b", "bash", True),
    ]


async def test_the_same_id_is_answered_by_what_was_recorded(stage: Stage) -> None:
    """[HAND-4] By another worker, too."""
    brain = await stage.begin()
    first = await stage.call(brain, "bash", "one", command=GROWS)
    assert first == Result("1\n", exit_code=0)
    assert await stage.call(brain, "bash", "one", command=GROWS) == first
    async with worker(stage) as other:
        assert await other.call(await stage.supersede(brain), "one", "bash", {"command": GROWS}) == first
    assert len(await stage.events(brain, "tool_start")) == 1


async def test_the_same_id_waits_for_the_call_that_runs(stage: Stage) -> None:
    """[HAND-4]"""
    brain = await stage.begin()
    results: list[Result] = []

    async def one() -> None:
        results.append(await stage.call(brain, "bash", "one", command=f"until [ -e go ]; do sleep 0.05; done; {GROWS}"))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
        await stage.call(brain, "write", path="go", content="")
    assert results == [Result("1\n", exit_code=0)] * 3


async def test_the_same_id_with_another_input_is_refused(stage: Stage) -> None:
    """[HAND-4]"""
    brain = await stage.begin()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: stage.call(brain, "bash", "one", command="touch up; until [ -e go ]; do sleep 0.05; done"))
        await until(brain.place.work / "up")
        with pytest.raises(CallReused):
            await stage.call(brain, "bash", "one", command="echo 2")
        await stage.call(brain, "bash", command="touch go")
    with pytest.raises(CallReused):
        await stage.call(brain, "read", "one", path="go")
    assert len(await stage.rows()) == 2


async def test_the_same_id_in_another_turn_is_another_call(stage: Stage) -> None:
    brain = await stage.begin()
    await stage.call(brain, "bash", "one", command=GROWS)
    await stage.end(brain)
    later = await stage.begin(brain.turn.session_id)
    assert (await stage.call(later, "bash", "one", command=GROWS)).output == "2\n"


async def test_a_superseded_turn_begins_nothing(stage: Stage) -> None:
    """[HAND-5]"""
    brain = await stage.begin()
    await stage.supersede(brain)
    with pytest.raises(Fenced):
        await stage.call(brain, "bash", "one", command=GROWS)
    assert not (brain.place.work / "ran").exists()
    assert (await stage.rows(), await stage.events(brain, "tool_start")) == ([], [])


async def test_a_call_whose_turn_is_taken_over_meanwhile_is_not_run_again(stage: Stage) -> None:
    """[HAND-5] The old worker records nothing, the new one says that it does not know."""
    brain = await stage.begin()
    command = f"{GROWS}; until [ -e go ]; do sleep 0.05; done"
    refused: list[type[Exception]] = []

    async def old() -> None:
        try:
            await stage.call(brain, "bash", "one", command=command)
        except SwitchboardError as exc:
            refused.append(type(exc))

    async with worker(stage) as other, anyio.create_task_group() as group:
        group.start_soon(old)
        await until(brain.place.work / "ran")
        newer = await stage.supersede(brain)
        assert await other.call(newer, "one", "bash", {"command": command}) == Result(
            INTERRUPTED, is_error=True, interrupted=True
        )
    assert refused == [Fenced]
    assert (brain.place.work / "ran").read_text() == "ran\n"


async def stood_still(stage: Stage, hands: Hands, takes: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    """A worker that has written a call's intent; `takes` gets what another worker does before the call goes on."""
    brain = await stage.begin()

    async def take() -> None:
        newer = await stage.supersede(brain)
        assert (await stage.call(newer, "bash", "one", command=GROWS)).interrupted
        assert (await stage.call(newer, "bash", "two", command=GROWS)).output == "1\n"

    takes(take)
    with anyio.fail_after(SECONDS), pytest.raises(Fenced):
        await hands.call(brain, "one", "bash", {"command": GROWS})
    assert (brain.place.work / "ran").read_text() == "ran\n"
    assert await stage.call(brain, "bash", "one", command=GROWS) == Result(INTERRUPTED, is_error=True, interrupted=True)


async def test_a_worker_that_stood_still_begins_nothing_its_successor_has_called_interrupted(stage: Stage) -> None:
    """[HAND-5] While it opened the way out."""
    async with worker(stage) as slow:

        def takes(take: Callable[[], Awaitable[None]]) -> None:
            async def of(*_: object) -> dict[str, str]:
                await take()
                return {}

            slow._ways.of = of  # type: ignore[method-assign, assignment]

        await stood_still(stage, slow, takes)


async def test_a_call_that_is_about_to_begin_when_its_runtime_dies_is_the_next_attempts(stage: Stage) -> None:
    """[HAND-4] [HAND-5] At the same worker: it runs once, and whoever asks again gets what it printed."""
    brain = await stage.begin()
    newer: list[Brain] = []
    async with worker(stage) as one:

        async def of(*_: object) -> dict[str, str]:
            newer.append(await stage.supersede(brain, one._worker))
            return {}

        one._ways.of = of  # type: ignore[method-assign, assignment]
        with anyio.fail_after(SECONDS):
            with pytest.raises(Fenced):
                await one.call(brain, "one", "bash", {"command": GROWS})
            assert (await one.call(newer[0], "one", "bash", {"command": GROWS})).output == "1\n"
    assert (brain.place.work / "ran").read_text() == "ran\n"


async def test_a_worker_that_stood_still_in_the_last_moment_asks_once_more(stage: Stage) -> None:
    """[HAND-5] When it had asked for the fence, and stood before the engine."""
    did: list[Callable[[], Awaitable[None]]] = []

    def holds() -> bool:
        try:
            from_thread.check_cancelled()
        except RuntimeError:
            return True  # asked in the loop
        if did:
            from_thread.run(did.pop())
            return False
        return True

    async with worker(stage, holds) as slow:
        await stood_still(stage, slow, did.append)


async def test_a_worker_that_cannot_know_whether_it_holds_a_turn_waits_until_it_does(stage: Stage) -> None:
    """[HAND-5] Nothing has begun meanwhile."""
    brain, asked, known = await stage.begin(), anyio.Event(), anyio.Event()
    results: list[Result] = []

    def holds() -> bool:
        asked.set()
        return known.is_set()

    async with worker(stage, holds) as slow, anyio.create_task_group() as group:

        async def one() -> None:
            results.append(await slow.call(brain, "one", "bash", {"command": GROWS}))

        with anyio.fail_after(SECONDS):
            group.start_soon(one)
            await asked.wait()
            assert not (brain.place.work / "ran").exists()
            known.set()
    assert results == [Result("1\n", exit_code=0)]


async def killed(stage: Stage, brain: Brain, command: str) -> None:
    """A worker that was killed in the middle of the call `one`, when it had made `ran`."""
    given = {"data_dir": str(stage.settings.data_dir), "image": stage.settings.agent_image, "url": stage.settings.database}
    text = json.dumps({**given, "call_id": "one", "turn": asdict(brain.turn), "command": command})
    async with await anyio.open_process([sys.executable, "-m", "tests.gateway.hands.victim", text]) as process:
        await until(brain.place.work / "ran")
        process.kill()
        await process.wait()


async def test_what_a_killed_worker_left_of_a_turn_that_is_over_is_ended(stage: Stage) -> None:
    """[HAND-2] Though nobody asks for the call again."""
    brain = await stage.begin()
    await killed(stage, brain, f"{GROWS}; setsid sleep 973 & sleep 974")
    await stage.end(brain)
    await stage.hands.sweep()
    later = await stage.begin(brain.turn.session_id)
    assert [await running(stage, later, f"sleep {n}") for n in (973, 974)] == ["0", "0"]
    assert {row.turn_id for row in await stage.rows()} == {later.turn.id}


async def test_a_call_is_not_run_again_after_its_worker_was_killed(stage: Stage) -> None:
    """[HAND-5] kill -9 between intent and result: an answer that says so, nothing left, and a new id runs."""
    brain = await stage.begin()
    command = f"{GROWS}; setsid sleep 977 & sleep 978"
    await killed(stage, brain, command)
    newer = await stage.supersede(brain)
    lost = await stage.call(newer, "bash", "one", command=command)
    assert lost == Result(INTERRUPTED, is_error=True, interrupted=True)
    assert await stage.call(newer, "bash", "one", command=command) == lost
    assert (brain.place.work / "ran").read_text() == "ran\n"
    assert [await running(stage, newer, f"sleep {n}") for n in (977, 978)] == ["0", "0"]
    assert (await stage.call(newer, "bash", "two", command=GROWS)).output == "2\n"
    assert "not run again" in (await stage.events(brain, "notice"))[-1]["text"]


async def test_a_result_that_comes_when_its_attempt_is_over_is_kept_for_the_next(stage: Stage) -> None:
    """[HAND-4]"""
    brain = await stage.begin()
    command = f"touch up; until [ -e go ]; do sleep 0.05; done; {GROWS}"
    results: list[Result] = []

    async def one(brain: Brain) -> None:
        results.append(await stage.call(brain, "bash", "one", command=command))

    again = Brain(stage.log, brain.turn, brain.place)
    async with anyio.create_task_group() as group:
        group.start_soon(one, brain)
        await until(brain.place.work / "up")
        brain.over = True
        (brain.place.work / "go").touch()
    assert await stage.call(again, "bash", "one", command=command) == results[0] == Result("1\n", exit_code=0)


async def test_a_result_that_comes_between_two_attempts_is_told_to_the_second(stage: Stage) -> None:
    """[HAND-4] Under the new fence: the one that began it is refused by now."""
    brain = await stage.begin()
    command = f"touch up; until [ -e go ]; do sleep 0.05; done; {GROWS}"
    refused: list[type[Exception]] = []

    async def one() -> None:
        try:
            await stage.call(brain, "bash", "one", command=command)
        except SwitchboardError as exc:
            refused.append(type(exc))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(brain.place.work / "up")
        again = await stage.supersede(brain)
        brain.over = True
        (brain.place.work / "go").touch()
    assert refused == [Fenced]
    for _ in range(2):
        assert await stage.call(again, "bash", "one", command=command) == Result("1\n", exit_code=0)
    assert [row.result is not None for row in await stage.rows()] == [True]


async def test_a_cancelled_call_is_ended_and_says_so(stage: Stage) -> None:
    brain = await stage.begin()
    results: list[Result] = []

    async def one() -> None:
        results.append(await stage.call(brain, "bash", "one", command="touch up; sleep 976"))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(brain.place.work / "up")
        stage.hands.cancel(brain.turn.id, "one")
    assert results == [Result(CANCELLED, is_error=True)]
    assert await running(stage, brain, "sleep 976") == "0"


async def test_what_a_turn_still_runs_ends_with_it(stage: Stage) -> None:
    """[HAND-2]"""
    brain = await stage.begin()
    refused: list[Exception] = []

    async def one() -> None:
        try:
            await stage.call(brain, "bash", "one", command="touch up; sleep 975")
        except SwitchboardError as exc:
            refused.append(exc)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await until(brain.place.work / "up")
        brain.over = True
        await stage.end(brain)
        await stage.hands.end(brain.turn.id)
    assert await running(stage, await stage.begin(brain.turn.session_id), "sleep 975") == "0"


async def test_calls_of_turns_that_are_over_are_forgotten(stage: Stage) -> None:
    over, runs = await stage.begin(), await stage.begin()
    for brain in (over, runs):
        await stage.call(brain, "ls", "one")
    await stage.end(over)
    await stage.hands.sweep()
    assert [row.turn_id for row in await stage.rows()] == [runs.turn.id]


async def test_an_engine_that_is_gone_is_told_to_the_owner(stage: Stage) -> None:
    brain = await stage.begin()
    stage.engine, there = Engine({"DOCKER_HOST": "tcp://127.0.0.1:9"}), stage.engine
    try:
        async with worker(stage) as hands:
            result = await hands.call(brain, "one", "bash", {"command": "true"})
    finally:
        stage.engine = there
    assert result == Result(NO_ENGINE, is_error=True)
    assert "does not answer" in (await stage.events(brain, "notice"))[-1]["text"]
