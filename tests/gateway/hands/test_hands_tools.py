"""What the sandbox's tools do, in a real container."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from gateway.hands.service import INTERRUPTED
from gateway.hands.tools import MAX_FILE, Result
from tests import needs
from tests.gateway.hands.stage import SECONDS, Brain, Stage, staged


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("data"), needs.an_engine()) as stage:
        yield stage


@pytest.fixture(scope="module")
async def brain(stage: Stage) -> Brain:
    return await stage.begin()


@pytest.fixture
def work(brain: Brain) -> Path:
    return brain.place.work


# -- bash


async def test_a_command_answers_both_outputs_in_order_and_its_exit_code(stage: Stage, brain: Brain) -> None:
    """[HAND-1]"""
    result = await stage.call(brain, "bash", command="echo one; echo two >&2; printf three; exit 3")
    assert result == Result("one\ntwo\nthree", is_error=True, exit_code=3)


async def test_a_command_works_in_the_workspace_as_nobody_with_a_home_that_lasts(
    stage: Stage, brain: Brain, work: Path
) -> None:
    result = await stage.call(brain, "bash", command="pwd; id -u; echo $HOME; touch ~/kept; echo x > made; cat; [[ a == a ]]")
    assert result == Result("/workspace\n10001\n/home/agent\n", exit_code=0)
    assert (work / "made").read_text() == "x\n"
    assert (brain.place.work.parent / "hands" / "kept").exists()


async def test_a_command_that_takes_too_long_is_ended_with_all_it_started(stage: Stage, brain: Brain) -> None:
    """[HAND-2]"""
    command = "trap '' TERM; echo begun; (setsid sleep 987 &); sleep 986 & sleep 985"
    result = await stage.call(brain, "bash", command=command, timeout_ms=500)
    assert (result.is_error, result.timed_out, result.exit_code) == (True, True, None)
    assert result.output.startswith("begun\n[ended after 500 ms")
    left = await stage.call(brain, "bash", command="ps -e -o args | grep 'sleep 98[567]'")
    assert left.output == ""


async def test_what_a_command_leaves_in_the_background_goes_on(stage: Stage, brain: Brain) -> None:
    await stage.call(brain, "bash", command="yes > /dev/null & echo $! > pid; (while :; do echo still; sleep 0.05; done) &")
    result = await stage.call(brain, "bash", command="kill $(cat pid) && echo it ran")
    assert result == Result("it ran\n", exit_code=0)


async def test_of_fifty_megabytes_the_ends_are_kept(stage: Stage, brain: Brain) -> None:
    """[HAND-2]"""
    result = await stage.call(brain, "bash", command="echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert result.truncated
    assert result.exit_code == 0
    assert result.output.startswith("first\nxxx")
    assert result.output.endswith("xxx\nlast\n")
    assert "bytes left out" in result.output
    assert len(result.output) < 300_000


async def test_a_command_that_ends_its_own_shell_says_so(stage: Stage, brain: Brain) -> None:
    result = await stage.call(brain, "bash", command="echo so far; kill -9 $PPID $$")
    assert result.is_error
    assert result.output.startswith("so far\n[its container was stopped or cut off, or it ended its own shell")


async def test_a_command_of_a_hundred_kilobytes_is_run_and_more_is_refused(stage: Stage, brain: Brain) -> None:
    assert (await stage.call(brain, "bash", command="echo " + "x" * 99_000)).output == "x" * 99_000 + "\n"
    refused = await stage.call(brain, "bash", command="echo " + "x" * 100_000)
    assert refused.is_error
    assert "more than 100000 bytes" in refused.output


async def test_eight_commands_run_at_once(stage: Stage, brain: Brain) -> None:
    """Each waits for all the others."""
    script = "mkdir -p met; touch met/{0}; until [ $(ls met | wc -l) -ge 8 ]; do sleep 0.05; done; echo {0}"
    told: list[str] = []

    async def one(number: int) -> None:
        told.append((await stage.call(brain, "bash", command=script.format(number))).output)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(one, number)
    assert sorted(told) == [f"{number}\n" for number in range(8)]


# -- files

BYTES = bytes(range(256)) * 40_000  # 10 MB


@pytest.mark.parametrize(
    "content",
    [b"", b"no newline", b"one\n\n\n", "ü\u2028 \U0001f600\r\n".encode(), b"$(id) `id` '\"\\\n"],
    ids=["empty", "no newline", "newlines", "unicode", "shell"],
)
async def test_text_comes_back_as_it_was_written(stage: Stage, brain: Brain, work: Path, content: bytes) -> None:
    """[HAND-1]"""
    path = "a new/folder/ü \U0001f600 'x'.txt"
    written = await stage.call(brain, "write", path=path, content=content.decode())
    assert (written.is_error, (work / path).read_bytes()) == (False, content)
    assert await stage.call(brain, "read", path=f"/workspace/{path}") == Result(content.decode())


async def test_ten_megabytes_of_any_bytes_come_back_as_they_were_written(stage: Stage, brain: Brain, work: Path) -> None:
    """[HAND-1]"""
    encoded = base64.b64encode(BYTES).decode()
    written = await stage.call(brain, "write", path="any", content=encoded, encoding="base64")
    assert (written.is_error, (work / "any").read_bytes() == BYTES) == (False, True)
    read = await stage.call(brain, "read", path="any", encoding="base64")
    assert (read.encoding, read.truncated, read.output == encoded) == ("base64", False, True)
    part = await stage.call(brain, "read", path="any", encoding="base64", offset=250, limit=10)
    assert base64.b64decode(part.output) == BYTES[250:260]
    assert "no UTF-8 text" in (await stage.call(brain, "read", path="any")).output


async def test_of_a_larger_file_the_beginning_is_read_and_said_to_be_that(stage: Stage, brain: Brain, work: Path) -> None:
    (work / "large").write_text("x" + "ü" * MAX_FILE)
    (work / "large").chmod(0o644)
    read = await stage.call(brain, "read", path="large")
    assert (read.truncated, read.output == "x" + "ü" * (MAX_FILE // 2 - 1)) == (True, True)


async def test_lines_are_read_from_an_offset(stage: Stage, brain: Brain) -> None:
    await stage.call(brain, "write", path="lines", content="1\n2\n3\n4")
    assert (await stage.call(brain, "read", path="lines", offset=2, limit=2)).output == "2\n3\n"
    assert (await stage.call(brain, "read", path="lines", offset=4)).output == "4"
    assert (await stage.call(brain, "read", path="lines", limit=1)).output == "1\n"


async def test_a_file_that_is_written_keeps_its_mode_and_no_other_is_left(stage: Stage, brain: Brain) -> None:
    await stage.call(brain, "bash", command="mkdir m; echo old > m/run; chmod 750 m/run; ln -s run m/link")
    await stage.call(brain, "write", path="m/link", content="new")
    seen = await stage.call(brain, "bash", command="stat -c %a m/run; cat m/run; readlink m/link; ls -A m")
    assert seen.output == "750\nnewrun\nlink\nrun\n"


async def test_edits_are_all_made_or_none(stage: Stage, brain: Brain, work: Path) -> None:
    await stage.call(brain, "write", path="e", content="one two two\nthree")
    good = [{"old": "one", "new": "1"}, {"old": "1 two", "new": ""}, {"old": "three", "new": "ü"}]
    assert not (await stage.call(brain, "edit", path="e", edits=good)).is_error
    assert (work / "e").read_bytes() == " two\nü".encode()
    for wrong, said in (("gone", "stands 0 times"), ("", "at least 1")):
        refused = await stage.call(brain, "edit", path="e", edits=[{"old": "two", "new": "2"}, {"old": wrong, "new": "x"}])
        assert refused.is_error
        assert said in refused.output
    await stage.call(brain, "write", path="e", content="xx")
    assert "stands 2 times" in (await stage.call(brain, "edit", path="e", edits=[{"old": "x", "new": "y"}])).output
    assert (work / "e").read_bytes() == b"xx"


async def test_edits_of_one_file_at_once_lose_nothing(stage: Stage, brain: Brain, work: Path) -> None:
    await stage.call(brain, "write", path="race", content="".join(f"<{n}>" for n in range(6)))
    async with anyio.create_task_group() as group:
        for n in range(6):
            group.start_soon(lambda n=n: stage.call(brain, "edit", path="race", edits=[{"old": f"<{n}>", "new": f"[{n}]"}]))
    assert (work / "race").read_text() == "".join(f"[{n}]" for n in range(6))


async def test_folders_are_listed_and_searched(stage: Stage, brain: Brain) -> None:
    made = "mkdir -p s/a/b s/.git; cd s; echo Needle > a/x.py; echo 'a needle: 2' > a/b/y.py; touch z.txt 'ü n.py'"
    await stage.call(
        brain,
        "bash",
        command=f"{made}; echo needle > .git/c; head -c 999 /dev/urandom > bin; echo needle >> bin; printf '\\0' >> bin",
    )
    assert (await stage.call(brain, "ls", path="s")).output == ".git/\na/\nbin\nz.txt\nü n.py\n"
    assert (await stage.call(brain, "glob", path="s", pattern="**/*.py")).output == "s/a/b/y.py\ns/a/x.py\ns/ü n.py\n"
    assert (await stage.call(brain, "glob", path="s", pattern="*.{txt,py}")).output == "s/z.txt\ns/ü n.py\n"
    assert (await stage.call(brain, "grep", path="s", pattern="need(le)")).output == "s/a/b/y.py:1:a needle: 2\n"
    both = await stage.call(brain, "grep", path="s/a", pattern="needle", ignore_case=True, glob="*.py")
    assert sorted(both.output.splitlines()) == ["s/a/b/y.py:1:a needle: 2", "s/a/x.py:1:Needle"]
    assert (await stage.call(brain, "grep", path="s/a/x.py", pattern="N")).output == "s/a/x.py:1:Needle\n"
    assert (await stage.call(brain, "grep", path="s", pattern="nowhere")) == Result("")
    assert (await stage.call(brain, "grep", path="s", pattern="(")).is_error


# -- what tools do not do


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "/workspace/../etc/passwd", "/workspacex/y"])
async def test_a_path_that_leads_out_is_refused(stage: Stage, brain: Brain, path: str) -> None:
    """[HAND-3]"""
    for tool, more in (
        ("read", {}),
        ("write", {"content": "x"}),
        ("ls", {}),
        ("glob", {"pattern": "*"}),
        ("grep", {"pattern": "x"}),
    ):
        result = await stage.call(brain, tool, path=path, **more)
        assert result.is_error
        assert "leads out of the workspace" in result.output


async def test_a_link_that_leads_out_is_refused(stage: Stage, brain: Brain) -> None:
    """[HAND-3]"""
    links = {"etc": "/etc", "file": "/etc/passwd", "up": "../..", "new": "/tmp/new", "inside": "ok"}
    made = "; ".join(f"ln -s {to} {name}" for name, to in links.items())
    await stage.call(brain, "bash", command=f"mkdir l; cd l; {made}; echo in > ok")
    for path in ("l/etc/passwd", "l/file", "l/up/etc/passwd", "l/etc/new/file", "l/new"):
        for tool, more in (("read", {}), ("write", {"content": "x"}), ("edit", {"edits": [{"old": "root", "new": "x"}]})):
            result = await stage.call(brain, tool, path=path, **more)
            assert result.is_error
            assert "by a symbolic link" in result.output
    assert (await stage.call(brain, "ls", path="l/etc")).is_error
    assert (await stage.call(brain, "read", path="l/inside")).output == "in\n"
    assert (await stage.call(brain, "bash", command="ls /tmp")).output == ""


async def test_what_is_no_file_is_not_read(stage: Stage, brain: Brain) -> None:
    await stage.call(brain, "bash", command="mkdir no; mkfifo no/pipe; touch no/secret; chmod 0 no/secret")
    said = {"no": "is a folder", "no/pipe": "neither a file", "no/secret": "did not work", "no/where": "There is no"}
    for path, words in said.items():
        result = await stage.call(brain, "read", path=path)
        assert result.is_error
        assert words in result.output


async def test_a_wrong_input_is_answered_in_words_for_a_model(stage: Stage, brain: Brain) -> None:
    said = {
        "There is no tool 'sh'": ("sh", {"command": "x"}),
        "command: Field required": ("bash", {}),
        "path: Input should be a valid string": ("read", {"path": 3}),
        "no base64": ("write", {"path": "x", "content": "?", "encoding": "base64"}),
        "NUL": ("bash", {"command": "\0"}),
        "character that no tool takes": ("ls", {"path": "a\nb"}),
    }
    for words, (tool, input) in said.items():
        result = await stage.call(brain, tool, **input)
        assert result.is_error
        assert words in result.output
    assert INTERRUPTED not in {row.tool for row in await stage.rows()}


# -- what is around them


async def test_the_sandbox_has_no_network_no_gateway_and_no_other_session(stage: Stage, brain: Brain, work: Path) -> None:
    """[HAND-3]"""
    other = await stage.begin()
    await stage.call(other, "bash", command="echo what another wrote > note; sleep 300 &")
    (work.parent / "home" / "journal").write_text("what the brain remembers")
    probe = (
        "grep -c eth /proc/net/dev; ls -d /var/run/docker.sock; find / '(' -name note -o -name journal ')' 2>/dev/null;"
        f"ls {work.parent}; ps -e -o args | grep -c '[s]leep 300'; grep CapEff /proc/self/status; touch /usr/x /x"
    )
    seen = (await stage.call(brain, "bash", command=probe)).output
    assert "another" not in seen
    assert "/workspace/note" not in seen
    assert "journal" not in seen
    assert seen.splitlines()[0] == "0"
    assert seen.count("No such file") == 2
    assert "\n0\nCapEff:\t0000000000000000\n" in seen
    assert seen.count("Read-only file system") == 2


async def test_the_containers_of_two_sessions_are_two(stage: Stage, brain: Brain) -> None:
    other = await stage.begin()
    names = [(await stage.call(one, "bash", command="hostname")).output for one in (brain, other)]
    assert names[0] != names[1]
    assert {one.session for one in await stage.containers()} >= {brain.turn.session_id, other.turn.session_id}


async def test_files_the_gateway_puts_in_can_be_read_inside(stage: Stage) -> None:
    brain = await stage.begin()
    inbox = brain.place.work / "inbox"
    inbox.mkdir(mode=0o700)
    (inbox / "from-the-caller").write_text("hello")
    os.chmod(inbox / "from-the-caller", 0o600)
    with anyio.fail_after(SECONDS):
        assert (await stage.call(brain, "read", path="inbox/from-the-caller")).output == "hello"
