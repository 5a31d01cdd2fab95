"""Real processes: started, fed, read and stopped."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from adapters.launch.lines import Line
from adapters.launch.process import Exited, LaunchError, Process, Warden
from tests.adapters.launch.watching import survivors, watched

ENV = {"PATH": os.environ["PATH"]}
DAEMONS = Path(__file__).with_name("daemons.py")


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, *args]


async def everything(process: Process) -> list[Line]:
    lines: list[Line] = []
    with anyio.fail_after(10):
        while batch := await process.lines():
            lines += batch
    return lines


def gone(*pids: int) -> bool:
    return not any(map(psutil.pid_exists, pids))


async def daemons(warden: Warden, *args: str) -> tuple[Process, list[int]]:
    process = await warden.spawn([sys.executable, "-I", "-S", str(DAEMONS), *args], env=ENV, cwd="/", tag="daemons")
    with anyio.fail_after(10):
        (line,) = await process.lines()
    pids = json.loads(line.data)
    assert all(map(psutil.pid_exists, pids[1:]))
    return process, pids


async def test_a_process_is_read_to_its_end_and_tells_how_it_ended(warden: Warden, tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd()); print('why', file=sys.stderr); sys.exit(3)"
    process = await warden.spawn(python(code), env=ENV, cwd=str(tmp_path), tag="t")
    assert await everything(process) == [Line(os.fsencode(tmp_path))]
    assert await process.wait() == Exited(3, None)
    assert process.stderr_tail() == "why\n"
    await process.aclose()


async def test_a_child_has_the_given_environment_and_its_turn_and_nothing_else(warden: Warden) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    given = {"PATH": "/nowhere", "KEY": "ä \u2028 = \udcff", "EMPTY": "", "LC_ALL": "C.UTF-8"}
    process = await warden.spawn(python(code), env=given, cwd="/", tag="turn_1")
    (line,) = await everything(process)
    assert json.loads(line.data) == {**given, "SWITCHBOARD_TURN": "turn_1"}
    await process.aclose()


async def test_a_child_begins_with_clean_signals_limits_descriptors_and_a_session_of_its_own(warden: Warden) -> None:
    code = """if True:
        import json, os, resource
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(json.dumps({
            "ignored": status["SigIgn"].strip(), "blocked": status["SigBlk"].strip(),
            "fds": sorted(os.listdir("/proc/self/fd"))[:3], "more": len(os.listdir("/proc/self/fd")) - 4,
            "leader": os.getsid(0) == os.getpid() == os.getpgid(0),
            "core": resource.getrlimit(resource.RLIMIT_CORE), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
            "as": resource.getrlimit(resource.RLIMIT_AS),
        }))"""
    argv = [sys.executable, "-I", "-S", "-c", code]
    process = await warden.spawn(argv, env=ENV, cwd="/", tag="t")
    (line,) = await everything(process)
    found = json.loads(line.data)
    ignored = int(found.pop("ignored"), 16)
    assert {n for n in range(1, 32) if ignored >> (n - 1) & 1} == {signal.SIGPIPE, signal.SIGXFSZ}  # by the Python child itself
    assert found == {
        "blocked": "0" * 16,
        "fds": ["0", "1", "2"],
        "more": 0,
        "leader": True,
        "core": [0, 0],
        "nofile": [512, 512],
        "as": list(resource.getrlimit(resource.RLIMIT_AS)),
    }
    await process.aclose()


async def test_a_megabyte_goes_through_stdin_and_comes_back(warden: Warden) -> None:
    process = await warden.spawn(["cat"], env=ENV, cwd="/", tag="t")
    data = b"".join(b"%d %s\n" % (number, b"x" * 1000) for number in range(1000))

    async def feed() -> None:
        await process.write(data)
        await process.close_stdin()

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        lines = await everything(process)
    assert b"".join(line.data + b"\n" for line in lines) == data
    assert await process.wait() == Exited(0, None)
    await process.aclose()


async def test_writing_to_a_process_that_no_longer_reads_is_no_error(warden: Warden) -> None:
    process = await warden.spawn(python("import os; os.close(0); os.write(1, b'x\\n'); input()"), env=ENV, cwd="/", tag="t")
    assert await process.lines() == [Line(b"x")]
    with anyio.fail_after(5):
        await process.write(b"x" * 1_000_000)
        await process.write(b"more")
        await process.close_stdin()
    await process.aclose()


async def test_a_writer_that_waits_is_let_go_when_the_reader_goes_away(warden: Warden) -> None:
    process = await warden.spawn(
        ["sh", "-c", "read line; exec 0</dev/null; echo closed; sleep 1000"], env=ENV, cwd="/", tag="t"
    )
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(process.write, b"line\n" + b"x" * 1_000_000)
            assert await process.lines() == [Line(b"closed")]
        await process.aclose()


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("no-such-command", errno.ENOENT),
        ("/no/such/command", errno.ENOENT),
        ("{dir}", errno.EACCES),
        ("{dir}/plain", errno.EACCES),
        ("{dir}/garbage", errno.ENOEXEC),
        ("nul\0byte", errno.ENOENT),
        ("/nul\0byte", errno.EINVAL),
    ],
)
async def test_a_command_that_cannot_be_started_says_why(warden: Warden, tmp_path: Path, command: str, number: int) -> None:
    (tmp_path / "plain").write_text("x", "utf-8")
    (tmp_path / "garbage").write_text("x", "utf-8")
    (tmp_path / "garbage").chmod(0o755)
    with pytest.raises(LaunchError) as caught:
        await warden.spawn([command.format(dir=tmp_path)], env=ENV, cwd="/", tag="t")
    assert (caught.value.errno, caught.value.what) == (number, "command")
    await the_warden_still_works(warden)


async def test_too_long_arguments_are_refused(warden: Warden) -> None:
    with pytest.raises(LaunchError) as caught:
        await warden.spawn(["echo", *["x" * 100_000] * 100], env=ENV, cwd="/", tag="t")
    assert (caught.value.errno, caught.value.what) == (errno.E2BIG, "command")
    await the_warden_still_works(warden)


async def test_a_bad_working_directory_is_told_apart_from_a_missing_command(warden: Warden) -> None:
    with pytest.raises(LaunchError) as caught:
        await warden.spawn(["echo"], env=ENV, cwd="/no/such/directory", tag="t")
    assert (caught.value.errno, caught.value.what) == (errno.ENOENT, "cwd")
    await the_warden_still_works(warden)


async def the_warden_still_works(warden: Warden) -> None:
    process = await warden.spawn(["echo", "fine"], env=ENV, cwd="/", tag="next")
    assert await everything(process) == [Line(b"fine")]
    await process.aclose()


async def test_stop_kills_every_descendant_wherever_it_hides(warden: Warden) -> None:
    other = await warden.spawn(["sleep", "1000"], env=ENV, cwd="/", tag="other")
    process, pids = await daemons(warden)
    with anyio.fail_after(10):
        assert await process.stop(grace=0.1) == Exited(None, signal.SIGKILL)
    assert gone(*pids)
    assert psutil.pid_exists(other.pid)
    await process.aclose()
    await other.aclose()


async def test_what_a_process_left_behind_is_killed_when_it_is_closed(warden: Warden) -> None:
    process, pids = await daemons(warden, "exit")
    assert await everything(process) == []  # although the daemons hold stdout open
    assert await process.wait() == Exited(0, None)
    assert all(map(psutil.pid_exists, pids[1:]))
    await process.aclose()
    assert gone(*pids)


async def test_stop_asks_before_it_kills(warden: Warden) -> None:
    code = """if True:
        import signal, sys
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print("up", flush=True)
        signal.sigwait([signal.SIGTERM])
        print("bye")
        sys.exit(7)"""
    process = await warden.spawn(python(code), env=ENV, cwd="/", tag="t")
    assert await process.lines() == [Line(b"up")]
    with anyio.fail_after(10):
        assert await process.stop(grace=8) == Exited(7, None)
    assert await everything(process) == [Line(b"bye")]
    await process.aclose()


async def test_stop_is_shielded_and_can_be_repeated(warden: Warden) -> None:
    process, pids = await daemons(warden)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await process.stop(grace=0)
    assert gone(*pids)
    assert [await process.stop(), await process.stop(), await process.wait()] == [Exited(None, signal.SIGKILL)] * 3
    await process.aclose()
    await process.aclose()
    assert await process.lines() == []


async def test_a_second_stop_shortens_the_grace(warden: Warden) -> None:
    process, pids = await daemons(warden)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: process.stop(grace=60))
            await anyio.wait_all_tasks_blocked()
            await process.stop(grace=0)
    assert gone(*pids)
    await process.aclose()


async def test_a_canceled_spawn_leaves_nothing(warden: Warden) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await warden.spawn(["sleep", "1000"], env=ENV, cwd="/", tag="t")
    assert warden.pid is not None
    assert psutil.Process(warden.pid).children() == []


async def test_32_processes_at_once_are_kept_apart(warden: Warden) -> None:
    async def one(number: int) -> None:
        process = await warden.spawn(["cat"], env=ENV, cwd="/", tag=f"turn_{number}")
        await process.write(b"%d\n" % number * 100)
        await process.close_stdin()
        assert await everything(process) == [Line(b"%d" % number)] * 100
        assert await process.wait() == Exited(0, None)
        await process.aclose()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(one, number)


async def test_closing_the_warden_kills_everything_of_its_own() -> None:
    warden = Warden()
    process, pids = await daemons(warden)
    assert warden.pid is not None
    pids.append(warden.pid)
    with anyio.fail_after(10):
        await warden.aclose()
    assert gone(*pids)
    assert await process.wait() == Exited(None, signal.SIGKILL)
    await process.aclose()
    with pytest.raises(LaunchError):
        await warden.spawn(["echo"], env=ENV, cwd="/", tag="t")


async def test_the_death_of_the_warden_is_noticed_and_the_next_spawn_starts_another(warden: Warden) -> None:
    process, pids = await daemons(warden)
    first = warden.pid
    assert first is not None
    with watched(pids) as deaths, anyio.fail_after(10):
        os.kill(first, signal.SIGKILL)
        with pytest.raises(LaunchError) as caught:
            await process.wait()
        assert caught.value.what == "warden"
        assert await process.lines() == []
        assert await process.stop() == Exited(None, signal.SIGKILL)
        assert survivors(deaths) == []
    await process.aclose()
    await the_warden_still_works(warden)
    assert warden.pid != first


async def test_a_warden_that_does_not_answer_cannot_keep_a_turn_alive(warden: Warden, monkeypatch: pytest.MonkeyPatch) -> None:
    process, pids = await daemons(warden)
    assert warden.pid is not None
    monkeypatch.setattr("adapters.launch.warden.END_MARGIN", 0.01)
    os.kill(warden.pid, signal.SIGSTOP)
    with watched(pids) as deaths:
        await process.stop(grace=0)
        assert survivors(deaths) == []
    os.kill(warden.pid, signal.SIGCONT)
    await process.aclose()
    await the_warden_still_works(warden)


async def test_a_warden_that_cannot_start_is_an_error_and_leaves_nothing() -> None:
    warden = Warden(nofile=1)
    with anyio.fail_after(10):
        with pytest.raises(LaunchError) as caught:
            await warden.start()
        assert caught.value.what == "warden"
        await warden.aclose()


async def test_a_failed_start_leaves_the_other_processes_of_its_turn_alone(warden: Warden) -> None:
    process = await warden.spawn(["cat"], env=ENV, cwd="/", tag="t")
    with pytest.raises(LaunchError):
        await warden.spawn(["no-such-command"], env=ENV, cwd="/", tag="t")
    await process.write(b"alive\n")
    assert await process.lines() == [Line(b"alive")]
    await process.aclose()


async def test_the_signals_of_a_terminal_do_not_reach_the_warden(warden: Warden) -> None:
    assert warden.pid is not None
    assert os.getsid(warden.pid) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(warden.pid, number)
    await the_warden_still_works(warden)
