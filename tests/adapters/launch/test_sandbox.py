"""What a command inside the sandbox can see and reach, tried from inside. [SBX-1]"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import anyio
import psutil
import pytest

from adapters.launch import sandbox
from adapters.launch.process import Exited, LaunchError, Warden
from tests import needs
from tests.adapters.launch.watching import survivors, watched

PATH = os.environ["PATH"]


@pytest.fixture(autouse=True, scope="module")
def _sandbox() -> None:
    needs.a_sandbox()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session's directory beside another's, below the gateway's data."""
    for name in ("sessions/mine/home", "sessions/mine/work", "sessions/other/home", "sessions/other/work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "owner.key").write_text("the owner's key")
    (tmp_path / "sessions/other/home/journal").write_text("what another said")
    return tmp_path / "sessions" / "mine"


async def run(warden: Warden, session: Path, script: str, *args: object) -> tuple[str, Exited]:
    """What a shell script printed inside, and how it ended."""
    home, work = str(session / "home"), str(session / "work")
    argv = sandbox.wrapped(["sh", "-c", f"exec 2>&1\n{script}", "sh", *map(str, args)], home=home, work=work, path=PATH)
    process = await warden.spawn(argv, env={"PATH": PATH, "HOME": home}, cwd=work, tag="boxed")
    printed: list[str] = []
    with anyio.fail_after(20):
        while lines := await process.lines():
            printed += [line.data.decode() for line in lines]
        exited = await process.wait()
    await process.aclose()
    return "\n".join(printed), exited


async def test_it_works_in_its_own_directories_and_nowhere_else(warden: Warden, session: Path) -> None:
    script = 'pwd; echo kept > note; echo kept > ~/journal; for to in /usr/x /etc/ssl/x; do echo no > "$to"; done; exit 3'
    printed, exited = await run(warden, session, script)
    assert exited == Exited(3, None)
    assert printed.splitlines()[0] == str(session / "work")
    assert printed.count("Read-only file system") + printed.count("Permission denied") == 2
    assert [(session / name).read_text() for name in ("work/note", "home/journal")] == ["kept\n", "kept\n"]


async def test_the_gateways_keys_and_other_sessions_are_not_there(warden: Warden, session: Path) -> None:
    data = session.parents[1]
    script = 'cat "$1/owner.key" "$1/sessions/other/home/journal"; ls "$1" "$1/sessions"; ls -d ~/.. ~root /home/*'
    printed, _ = await run(warden, session, script, data)
    assert "the owner's key" not in printed
    assert "what another said" not in printed
    assert "other" not in [line for line in printed.splitlines() if "/" not in line]
    assert printed.count("No such file") >= 3


async def test_a_link_out_of_the_workspace_leads_nowhere(warden: Warden, session: Path) -> None:
    (session / "work/out").symlink_to(session.parent / "other")
    (session / "work/key").symlink_to(session.parents[1] / "owner.key")
    printed, _ = await run(warden, session, "cat out/home/journal key; echo mine > out/work/x")
    assert printed.count("No such file") == 2
    assert list((session.parent / "other/work").iterdir()) == []


async def test_it_sees_no_process_but_its_own(warden: Warden, session: Path) -> None:
    """And so can neither read the gateway's environment nor send it a signal."""
    printed, _ = await run(warden, session, 'kill -9 "$1"; cat "/proc/$1/environ"; ls /proc', os.getpid())
    pids = [line for line in printed.splitlines() if line.isdigit()]
    assert "No such process" in printed
    assert "No such file" in printed
    assert 2 <= len(pids) <= 4


async def test_no_socket_of_the_machine_is_there(warden: Warden, session: Path) -> None:
    """Neither the container engine's nor anybody's that stands below /run or /tmp; abstract ones belong to the network."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(session.parents[1] / "s"))
        script = 'for at in "$1" /run/docker.sock /var/run/docker.sock; do test -e "$at" && echo "$at"; done; ls -A /run'
        printed, _ = await run(warden, session, script, session.parents[1] / "s")
    assert printed == ""


async def test_nothing_is_left_of_it_when_it_is_stopped(warden: Warden, session: Path) -> None:
    home, work = str(session / "home"), str(session / "work")
    script = "setsid sh -c 'trap \"\" TERM; sleep 300' & echo up; sleep 300"
    argv = sandbox.wrapped(["sh", "-c", script], home=home, work=work, path=PATH)
    process = await warden.spawn(argv, env={"PATH": PATH, "HOME": home}, cwd=work, tag="boxed")
    with anyio.fail_after(20):
        assert [line.data for line in await process.lines()] == [b"up"]
        with watched(child.pid for child in psutil.Process(warden.pid).children(recursive=True)) as inside:
            assert len(inside) >= 4
            await process.stop(grace=0.2)
            assert survivors(inside) == []
    await process.aclose()


def test_a_command_that_is_not_there_is_an_error_that_names_it(session: Path) -> None:
    with pytest.raises(LaunchError, match="'no-such-agent' was not found") as caught:
        sandbox.wrapped(["no-such-agent"], home=str(session / "home"), work=str(session / "work"), path=PATH)
    assert caught.value.errno == errno.ENOENT
