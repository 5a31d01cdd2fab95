"""What a command in a container can see and reach, tried from inside, and how it is started, ended and cleaned away. [BOX-1]"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Sequence
from dataclasses import replace
from errno import ECONNREFUSED, EINVAL, ENOENT
from pathlib import Path

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import INSTALLATION, TURN, WORKER, Box, Container, Engine
from adapters.launch.process import Exited, LaunchError
from tests.images import built

SECONDS = 60


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop is enough where an engine does the work; frames are tested on both."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session's directory beside another's, below the gateway's data."""
    for name in ("sessions/mine/home", "sessions/mine/work", "sessions/other/home", "sessions/other/work"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).chmod(0o777)
    (tmp_path / "owner.key").write_text("the owner's key")
    (tmp_path / "sessions/other/home/journal").write_text("what another said")
    return tmp_path / "sessions" / "mine"


@pytest.fixture
def box(image: str, session: Path) -> Box:
    home, work = str(session / "home"), str(session / "work")
    return Box(image, (), {"HOME": home}, work, (home, work), {INSTALLATION: str(session)})


async def printed_by(process: Container) -> str:
    printed: list[str] = []
    while lines := await process.lines():
        printed += [line.data.decode() for line in lines]
    return "\n".join(printed)


async def run(engine: Engine, box: Box, script: str, *args: object) -> tuple[str, Exited]:
    """What a shell script printed inside, and how it ended."""
    with anyio.fail_after(SECONDS):
        process = await engine.spawn(replace(box, argv=shell(script, *args)))
        try:
            await process.close_stdin()
            return await printed_by(process), await process.wait()
        finally:
            await process.aclose()


async def test_one_that_works_on_after_its_last_word_is_waited_for(
    engine: Engine, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is asked for."""
    monkeypatch.setattr("adapters.launch.container.WAIT_SECONDS", 0.2)
    printed, exited = await run(engine, box, "echo last; exec >&- 2>&-; sleep 1; exit 5")
    assert (printed, exited.code) == ("last", 5)


def shell(script: str, *args: object) -> Sequence[str]:
    return ["sh", "-c", f"exec 2>&1\n{script}", "sh", *map(str, args)]


# -- what is inside


async def test_it_works_in_its_own_directories_and_nowhere_else(engine: Engine, box: Box, session: Path) -> None:
    tried = 'for to in /usr/x /etc/x /x /run/x; do echo no > "$to"; done; exit 3'
    script = f"pwd; id -u; echo kept > note; echo kept > ~/journal; {tried}"
    printed, exited = await run(engine, box, script)
    assert exited == Exited(3, None)
    assert printed.splitlines()[:2] == [str(session / "work"), "10001"]
    assert printed.count("Read-only file system") == 4
    assert [(session / name).read_text() for name in ("work/note", "home/journal")] == ["kept\n", "kept\n"]


async def test_the_machine_and_other_sessions_are_not_there(engine: Engine, box: Box, session: Path) -> None:
    data = session.parents[1]
    (session / "work/out").symlink_to(session.parent / "other")
    (session / "work/key").symlink_to(data / "owner.key")
    tried = 'cat "$1/owner.key" "$1/sessions/other/home/journal" out/home/journal key /etc/shadow; ls "$1" "$1/sessions"'
    printed, _ = await run(engine, box, tried, data)
    assert "the owner's key" not in printed
    assert "what another said" not in printed
    assert "other" not in [line for line in printed.splitlines() if "/" not in line]
    assert printed.count("No such file") >= 4


async def test_it_sees_no_process_but_its_own_and_gains_no_power(engine: Engine, box: Box) -> None:
    script = 'ls /proc | grep -c "^[[:digit:]]"; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status; unshare -m true; chown 0 ~'
    printed, _ = await run(engine, box, script)
    processes, *rest = printed.splitlines()
    assert int(processes) <= 5
    assert [line.split() for line in rest[:2]] == [["CapEff:", "0000000000000000"], ["NoNewPrivs:", "1"]]
    assert printed.count("not permitted") == 2


async def test_no_socket_of_the_machine_is_there(engine: Engine, box: Box, session: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(session.parents[1] / "s"))
        script = 'for at in "$1" /run/docker.sock /var/run/docker.sock; do ls "$at"; done 2>/dev/null; find / -xdev -type s'
        printed, _ = await run(engine, box, script, session.parents[1] / "s")
    assert [line for line in printed.splitlines() if not line.startswith("find:")] == []


async def test_without_a_network_nothing_of_the_machine_answers(engine: Engine, box: Box) -> None:
    """Neither a service of the machine, by any of its addresses, nor a name, nor where clouds keep their secrets."""
    hosts = ("127.0.0.1", "::1", "172.17.0.1", "169.254.169.254", "localhost.example")
    tried = 'for host; do (exec 3<> "/dev/tcp/$host/$port") && echo "reached $host"; done 2>/dev/null; echo over'
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        printed, _ = await run(engine, box, f"exec bash -c 'port={port}; {tried}' bash \"$@\"", *hosts)
    assert printed == "over"


# -- what outside can be seen of it


async def test_nothing_secret_can_be_read_of_a_container_from_outside(engine: Engine, box: Box) -> None:
    """[BOX-2]"""
    secret = f"secret-{uuid.uuid4().hex}"
    argv = ("sh", "-c", 'echo "$KEY"; echo "$1"; cat', "sh", secret)
    box = replace(box, argv=argv, env={**box.env, "KEY": f"{secret}'\n$(id)"})
    with anyio.fail_after(SECONDS):
        process = await engine.spawn(box)
        try:
            said = [line.data.decode() for line in await process.lines()]
            client = DockerClient.from_env()
            inspected = json.dumps(client.api.inspect_container(process.id))
            client.close()
            await process.close_stdin()
            said += (await printed_by(process)).splitlines()
        finally:
            await process.aclose()
    assert said == [f"{secret}'", "$(id)", secret]
    assert secret not in inspected


# -- how it lives and ends


async def test_lines_go_in_and_out_whatever_their_length(engine: Engine, box: Box) -> None:
    long = b"x" * 3_000_000
    with anyio.fail_after(SECONDS):
        process = await engine.spawn(replace(box, argv=("sh", "-c", "cat; echo end >&2; exit 4")))
        read: list[bytes] = []

        async def read_all() -> None:
            while lines := await process.lines():
                read.extend(line.data for line in lines)

        async with anyio.create_task_group() as group:
            group.start_soon(read_all)
            await process.write(b"one\n" + long + b"\n")
            await process.close_stdin()
        assert read == [b"one", long]
        assert await process.wait() == Exited(4, None)
        assert process.stderr_tail().strip() == "end"
        await process.aclose()


async def test_nothing_is_left_of_it_when_it_is_stopped(engine: Engine, box: Box, session: Path) -> None:
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 300' & echo up; sleep 300"
    with anyio.fail_after(SECONDS):
        process = await engine.spawn(replace(box, argv=("sh", "-c", script)))
        assert [line.data for line in await process.lines()] == [b"up"]
        assert await process.stop(grace=0.2) == Exited(137, None)
        assert await process.lines() == []
        await process.aclose()
        assert await engine.labelled(str(session)) == []


async def test_a_container_without_memory_left_says_so(engine: Engine, box: Box) -> None:
    _, exited = await run(engine, replace(box, memory_mb=64), "exec python3 -c 'bytearray(10 ** 9)'")
    assert exited == Exited(137, None, out_of_memory=True)


async def test_a_child_without_memory_left_is_its_own_affair(engine: Engine, box: Box) -> None:
    printed, exited = await run(engine, replace(box, memory_mb=64), "python3 -c 'bytearray(10 ** 9)'; echo $?; exit 5")
    assert printed.splitlines()[-1] == "137"
    assert exited == Exited(5, None)


async def test_the_number_of_its_processes_is_limited(engine: Engine, box: Box) -> None:
    code = "import os\ntry:\n    for n in range(99): os.fork() or os.pause()\nexcept OSError: print(n < 32)"
    code = code.replace("os.pause()", "__import__('signal').pause()")
    printed, _ = await run(engine, replace(box, pids=32), 'timeout -s KILL 10 python3 -c "$1"', code)
    assert printed == "True"


async def test_eight_run_at_once(engine: Engine, box: Box, session: Path) -> None:
    told: list[str] = []

    async def one(number: int) -> None:
        told.append((await run(engine, box, 'echo "$1"', number))[0])

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(one, number)
    assert sorted(told) == [str(number) for number in range(8)]
    assert await engine.labelled(str(session)) == []


async def test_what_is_there_is_found_by_its_labels(engine: Engine, box: Box) -> None:
    installation = uuid.uuid4().hex
    labels = {INSTALLATION: installation, WORKER: "wrk_1", TURN: "trn_1"}
    with anyio.fail_after(SECONDS):
        process = await engine.spawn(replace(box, argv=("sleep", "300"), labels=labels))
        assert await engine.labelled(installation) == [(process.id, "wrk_1", "trn_1", installation)]
        await engine.remove(process.id)
        await engine.remove(process.id)
        assert await engine.labelled(installation) == []
        assert await process.lines() == []
        assert await process.stop() == Exited(None, 9)
        assert "No such container" in process.stderr_tail()
        await process.aclose()


# -- what cannot be


async def test_an_image_that_is_not_there_is_named(engine: Engine, box: Box) -> None:
    with pytest.raises(LaunchError, match=r"The image 'switchboard-none:1' is not on .*make images") as caught:
        await engine.spawn(replace(box, image="switchboard-none:1"))
    assert caught.value.errno == ENOENT


async def test_directories_the_engine_does_not_see_are_told_of(engine: Engine, box: Box, session: Path) -> None:
    with pytest.raises(LaunchError, match=r"does not see .*directories.* shared disk") as caught:
        await engine.spawn(replace(box, mounts=("/no/such/session",)))
    assert caught.value.errno == EINVAL
    assert await engine.labelled(str(session)) == []


async def test_an_engine_that_does_not_answer_is_told_of(box: Box) -> None:
    with pytest.raises(LaunchError, match=r"does not answer.*DOCKER_HOST.*send the message again") as caught:
        await Engine({"DOCKER_HOST": "tcp://127.0.0.1:9"}).spawn(box)
    assert caught.value.errno == ECONNREFUSED


async def test_an_engine_can_be_spoken_to_over_tcp(box: Box) -> None:
    """Through a tunnel, as to one on another machine."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, tunnel)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        engine = Engine({"DOCKER_HOST": f"tcp://127.0.0.1:{port}"})
        with anyio.fail_after(SECONDS):
            process = await engine.spawn(replace(box, argv=("cat",)))
            await process.write(b"there and back\n")
            await process.close_stdin()
            assert [line.data for line in await process.lines()] == [b"there and back"]
            assert await process.wait() == Exited(0, None)
            await process.aclose()
        engine.close()
        group.cancel_scope.cancel()


async def tunnel(stream: anyio.abc.SocketStream) -> None:
    async def copy(source: anyio.abc.SocketStream, to: anyio.abc.SocketStream) -> None:
        async for data in source:
            await to.send(data)
        await to.send_eof()

    with anyio.CancelScope():
        async with stream, await anyio.connect_unix("/var/run/docker.sock") as engine, anyio.create_task_group() as group:
            group.start_soon(copy, stream, engine)
            group.start_soon(copy, engine, stream)


async def test_what_an_image_declares_as_a_volume_is_memory(engine: Engine, box: Box) -> None:
    """[GND-2] But for what is mounted there anyway."""
    tag = f"switchboard-test-{uuid.uuid4().hex}"
    lines = [f"FROM {box.image}", f'VOLUME ["/data", "/more/deep/", "/tmp", "{box.cwd}"]']
    await engine.call(lambda client: built(client, tag, {"Dockerfile": "\n".join(lines).encode()}))
    try:
        look = "echo x > /data/x && echo x > /more/deep/x && echo x > kept; for at; do stat -f -c %T $at; done; ls /more/deep"
        printed, exited = await run(engine, replace(box, image=tag), look, "/data", "/more/deep", "/tmp")
    finally:
        await engine.call(lambda client: client.images.remove(tag, force=True))
    assert (printed.split(), exited.code) == (["tmpfs", "tmpfs", "tmpfs", "x"], 0)
    assert (Path(box.cwd) / "kept").exists()
