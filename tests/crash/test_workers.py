"""Two workers on one database, of which one dies, stands still, or loses the database."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from tests.crash.witness import check_log
from tests.gateway.turns.calls import of_type, processes_of, tools
from tests.gateway.turns.parrot import RUNTIMES
from tests.postgres import PostgresServer, postgres_server
from tests.support import Client, Frame, GatewayProcess, Json, WorkerProcess, gateway_process, serving, streamed_text

ENDED = "TASK_STATE_FAILED", "TASK_STATE_COMPLETED"


@contextmanager
def workers(data_dir: Path, count: int, **env: str) -> Iterator[list[WorkerProcess]]:
    started: list[WorkerProcess] = []
    try:
        for _ in range(count):
            started.append(WorkerProcess(data_dir, {f"SWITCHBOARD_{name.upper()}": value for name, value in env.items()}))
            started[-1].start()
        yield started
    finally:
        for worker in started:
            worker.end(signal.SIGKILL)


def holder(among: list[WorkerProcess]) -> WorkerProcess:
    """The one below whose warden something runs."""
    for worker in among:
        if worker.process is not None and len(psutil.Process(worker.process.pid).children(recursive=True)) > 1:
            return worker
    raise AssertionError("no worker runs anything")


async def until_a_tool_runs(stream: AsyncIterator[Frame]) -> list[Frame]:
    frames: list[Frame] = []
    async for frame in stream:
        frames.append(frame)
        if tools(frames):
            break
    return frames


async def rest_of(client: Client, frames: list[Frame]) -> list[Frame]:
    task_id = frames[0].result["task"]["id"]
    follow = client.frames("mine", "SubscribeToTask", {"id": task_id}, {"Last-Event-ID": frames[-1].id})
    return [*frames, *[frame async for frame in follow]]


def final_state(frames: list[Frame]) -> str:
    return str(frames[-1].result["statusUpdate"]["status"]["state"])


@asynccontextmanager
async def calling(gateway: GatewayProcess) -> AsyncIterator[Client]:
    client = gateway.client()
    await client.owner("agent.create", name="mine", runtime="rehearsal")
    try:
        with anyio.fail_after(60):
            yield client
    finally:
        await client.http.aclose()


def turn_ids(events: list[Json]) -> set[str]:
    return {event["turn_id"] for event in events if event["turn_id"]}


@pytest.mark.usefixtures("database_url")
async def test_a_turn_whose_worker_is_killed_or_stands_still_is_taken_over(tmp_path: Path) -> None:
    """[LEASE-1] [LEASE-2] [INV-3]"""
    front = gateway_process(tmp_path, {"SWITCHBOARD_WORKER": "false"})
    with front as gateway, workers(tmp_path, 3, lease_seconds="1.5", turn_attempts="1") as three:
        async with calling(gateway) as client:
            for how in (signal.SIGKILL, signal.SIGSTOP):
                frames = await until_a_tool_runs(client.stream("mine", "N=20 SLEEPTOOL=600"))
                victim = holder(three)
                if how == signal.SIGSTOP:
                    await anyio.to_thread.run_sync(stand_still, victim, tmp_path / "switchboard.db")
                else:
                    victim.send(how)
                frames = await rest_of(client, frames)
                assert final_state(frames) in ENDED
                if how == signal.SIGSTOP:
                    victim.send(signal.SIGCONT)
                    await anyio.to_thread.run_sync(victim.wait_for, "turn_superseded")
                else:
                    victim.end()
                events = await client.events(frames[0].result["task"]["contextId"])
                check_log(events)
                assert len(of_type(events, "done")) == 1
                assert len(of_type(events, "tool_start")) == len(of_type(events, "tool_result"))
                assert processes_of(turn_ids(events)) == []


def stand_still(worker: WorkerProcess, database: Path) -> None:
    """Not in the middle of a commit, where it would hold up all who share an SQLite database (specs/design-notes.md)."""
    worker.send(signal.SIGSTOP)
    while database.exists() and is_locked(database):
        worker.send(signal.SIGCONT)
        time.sleep(0.01)
        worker.send(signal.SIGSTOP)


def is_locked(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=1)) as conn:
        try:
            conn.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


@asynccontextmanager
async def front_and_back(data_dir: Path, hints: bool) -> AsyncIterator[tuple[Client, Client]]:
    """A gateway that runs nothing, and one that does; they hear of each other, or not."""
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(serving(data_dir, RUNTIMES, worker=False))
        back = await stack.enter_async_context(serving(data_dir, RUNTIMES))
        if not hints:
            for gateway in (front, back):
                gateway.engine.log.database.hear(lambda words: None)
        yield front, back


with_and_without_hints = pytest.mark.parametrize("hints", [True, False], ids=["hints", "polls"])


@pytest.mark.usefixtures("database_url")
@with_and_without_hints
async def test_a_gateway_streams_what_another_one_runs(tmp_path: Path, hints: bool) -> None:
    """[LEASE-4] Also where no hint arrives."""
    async with front_and_back(tmp_path, hints) as (front, back):
        with anyio.fail_after(30):
            frames = [frame async for frame in front.stream("hello", "N=50 D=2000 SLEEPTOOL=0.1")]
            task = frames[0].result["task"]
            again = [
                frame async for frame in back.frames("hello", "SubscribeToTask", {"id": task["id"]}, {"Last-Event-ID": "0"})
            ]
            events = await front.events(task["contextId"])
    assert final_state(frames) == "TASK_STATE_COMPLETED"
    assert streamed_text(frames) == streamed_text(again)
    check_log(events)


@pytest.mark.usefixtures("database_url")
@with_and_without_hints
async def test_a_task_is_canceled_through_a_gateway_that_does_not_run_it(tmp_path: Path, hints: bool) -> None:
    """[LEASE-4]"""
    async with front_and_back(tmp_path, hints) as (front, _):
        with anyio.fail_after(30):
            frames = await until_a_tool_runs(front.stream("hello", "N=2 SLEEPTOOL=600"))
            answer = await front.rpc("hello", "CancelTask", {"id": frames[0].result["task"]["id"]})
    assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked to stop"])
async def test_a_turn_goes_on_at_another_worker(tmp_path: Path, how: signal.Signals) -> None:
    """[RESUME-1] [RESUME-2]"""
    front = gateway_process(tmp_path, {"SWITCHBOARD_WORKER": "false"})
    with front as gateway, workers(tmp_path, 2, drain_seconds="0") as two:
        async with calling(gateway) as client:
            frames = await until_a_tool_runs(client.stream("mine", "N=20 SLEEPTOOL=1"))
            holder(two).end(how)
            frames = await rest_of(client, frames)
            events = await client.events(frames[0].result["task"]["contextId"])
    assert final_state(frames) == "TASK_STATE_COMPLETED"
    check_log(events)
    check_attempts(events, 2)


def check_attempts(events: list[Json], count: int) -> None:
    """A turn of the rehearsal's that was cut off in its tool, as often as it began but once."""
    kinds = [
        event["type"] for event in events if event["type"] in ("turn_started", "tool_start", "tool_result", "system", "done")
    ]
    attempt = ["turn_started", "tool_start", "tool_result"]
    assert kinds == [*([*attempt, "system"] * (count - 1)), *attempt, "done"]
    started = of_type(events, "turn_started")
    assert [event["body"]["attempt"] for event in started] == list(range(1, count + 1))
    results = of_type(events, "tool_result")
    assert [event["body"]["is_error"] for event in results] == [True] * (count - 1) + [False]
    told = of_type(events, "system")
    assert {event["body"]["text"] for event in told} == {"The work was interrupted and goes on."}


@pytest.mark.usefixtures("database_url")
async def test_a_worker_that_is_asked_to_stop_lets_its_turn_end(tmp_path: Path) -> None:
    """[LEASE-6]"""
    with gateway_process(tmp_path, {"SWITCHBOARD_WORKER": "false"}) as gateway, workers(tmp_path, 1) as (worker,):
        async with calling(gateway) as client:
            frames = await until_a_tool_runs(client.stream("mine", "N=2 SLEEPTOOL=0.5"))
            worker.send(signal.SIGTERM)
            frames = await rest_of(client, frames)
    assert final_state(frames) == "TASK_STATE_COMPLETED"


async def test_a_gateway_that_is_asked_to_stop_tells_the_end_of_its_turn_first(tmp_path: Path) -> None:
    """[LEASE-6]"""
    with gateway_process(tmp_path) as gateway:
        async with calling(gateway) as client:
            frames: list[Frame] = []
            async for frame in client.stream("mine", "N=2 SLEEPTOOL=0.5"):
                frames.append(frame)
                if len(tools(frames)) == 1 and gateway.process is not None:
                    gateway.process.send_signal(signal.SIGTERM)
    assert final_state(frames) == "TASK_STATE_COMPLETED"


async def test_a_blocking_call_whose_gateway_is_stopped_is_answered_with_the_task_as_it_is(tmp_path: Path) -> None:
    """[LEASE-6] [RESUME-1] The task goes on when the gateway is back."""
    with gateway_process(tmp_path, {"SWITCHBOARD_DRAIN_SECONDS": "0"}) as gateway, anyio.fail_after(120):
        async with calling(gateway) as client, anyio.create_task_group() as group:
            answers: list[Json] = []

            async def ask() -> None:
                answers.append(await client.send("mine", "N=2 SLEEPTOOL=3"))

            group.start_soon(ask)
            while not processes_of(await running(client)):  # noqa: ASYNC110  (nobody tells)
                await anyio.sleep(0.05)
            await anyio.to_thread.run_sync(gateway.stop)
        await anyio.to_thread.run_sync(gateway.start)
        client = gateway.client()
        follow = client.frames("mine", "SubscribeToTask", {"id": answers[0]["id"]}, {"Last-Event-ID": "0"})
        frames = [frame async for frame in follow]
        await client.http.aclose()
    assert answers[0]["status"]["state"] == "TASK_STATE_WORKING"
    assert final_state(frames) == "TASK_STATE_COMPLETED"


async def running(client: Client) -> set[str]:
    """Turns that have begun."""
    sessions = (await client.owner("sessions.list"))["sessions"]
    return {turn["id"] for session in sessions for turn in (await client.owner("sessions.show", id=session["id"]))["turns"]}


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def test_a_database_that_is_away_for_a_moment_costs_a_turn_nothing(tmp_path: Path, own_server: PostgresServer) -> None:
    """[LEASE-5] [INV-1] [INV-8] It is killed in the middle of what is being written, three times."""
    url = own_server.url("migrated")
    async with serving(tmp_path, RUNTIMES, database_url=url, lease_seconds=60) as gateway:
        with anyio.fail_after(60):
            frames: list[Frame] = []
            async for frame in gateway.stream("hello", "N=300 D=3000"):
                frames.append(frame)
                if streamed_text(frames):
                    break
            for _ in range(3):
                await anyio.to_thread.run_sync(own_server.stop, signal.SIGQUIT)
                await anyio.to_thread.run_sync(own_server.start)
                await anyio.sleep(0.1)
            follow = gateway.frames("hello", "SubscribeToTask", {"id": frames[0].result["task"]["id"]}, {"Last-Event-ID": "0"})
            frames = [frame async for frame in follow]
            events = await gateway.events(frames[0].result["statusUpdate"]["contextId"])
    assert final_state(frames) == "TASK_STATE_COMPLETED"
    check_log(events)
    texts = "".join(event["body"]["text"] for event in of_type(events, "chunk"))
    assert texts.endswith("".join(f"word{number} " for number in range(300)))
    assert texts.count("word0 ") == 1


async def test_a_turn_whose_lease_cannot_be_renewed_is_stopped_and_then_ended(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    """[LEASE-5]"""
    url = own_server.url("migrated")
    async with serving(tmp_path, RUNTIMES, database_url=url, lease_seconds=1, turn_attempts=1) as gateway:
        with anyio.fail_after(60):
            frames = await until_a_tool_runs(gateway.stream("hello", "N=2 SLEEPTOOL=600"))
            task = frames[0].result["task"]
            events = await gateway.events(task["contextId"])
            await anyio.to_thread.run_sync(own_server.stop)
            while processes_of(turn_ids(events)):  # noqa: ASYNC110  (processes have no event here)
                await anyio.sleep(0.05)
            await anyio.to_thread.run_sync(own_server.start)
            follow = gateway.frames("hello", "SubscribeToTask", {"id": task["id"]}, {"Last-Event-ID": "0"})
            frames = [frame async for frame in follow]
            events = await gateway.events(task["contextId"])
    assert final_state(frames) in ENDED
    check_log(events)
