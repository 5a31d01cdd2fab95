"""What is done around a runtime: a repository checked out, and the owner's hooks; locally, in a sandbox, in containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from adapters.events import NEUTRAL
from tests import needs
from tests.gateway.turns.calls import calling, cancel, error_of, make_agent, of_type, speaks, state_of
from tests.gateway.turns.repository import git, made, served
from tests.gateway.turns.test_turns_contained import PLAYS
from tests.support import Client, Json, serving

SECONDS = 60
PLACES = ("local", "sandboxed", "docker")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("git")
    made(root / "repository")
    with served(root) as origin:
        yield f"{origin}/repository"


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    if found == "sandboxed":
        needs.a_sandbox()
    return found


@asynccontextmanager
async def gateway(data_dir: Path, place: str = "local", **settings: Any) -> AsyncIterator[Client]:
    if place == "docker":
        settings |= {"agent_image": needs.an_engine(), "container_network": "host"}
    async with serving(data_dir, PLAYS if place == "docker" else None, **settings) as client:
        yield client


async def agent(client: Client, place: str = "local", hooks: dict[str, str] | None = None, **more: Any) -> None:
    named = {name: {"command": command, "seconds": 20} for name, command in (hooks or {}).items()}
    await make_agent(client, "worker", "rehearsal", placement=place, hooks=named, **more)


async def told(client: Client, task: Json) -> list[str]:
    """What the owner reads of the hooks."""
    notices = of_type(await client.events(task["contextId"]), "notice")
    return [one["body"]["text"] for one in notices if one["body"]["kind"] == "hook"]


def without_times(lines: list[str]) -> list[str]:
    return [line.partition(", after ")[0] for line in lines]


def work_of(data_dir: Path, task: Json) -> Path:
    return data_dir / "sessions" / task["contextId"] / "work"


# -- a repository


async def test_a_repository_is_there_when_the_agent_begins_and_stays_as_it_left_it(
    tmp_path: Path, place: str, origin: str
) -> None:
    """[PREP-1]"""
    async with gateway(tmp_path, place) as client:
        await agent(
            client, place, {"pre_init": "cat count; git log --format=%s | head -1; echo changed > count"}, git={"url": origin}
        )
        with anyio.fail_after(SECONDS):
            task = await client.send("worker", "N=1")
            again = await client.send("worker", "N=1", contextId=task["contextId"])
        lines = without_times(await told(client, task))
    assert (state_of(task), state_of(again)) == ("COMPLETED", "COMPLETED")
    assert lines == ["git: done", "pre_init: 3", "pre_init: commit 3", "pre_init: done"]
    assert (work_of(tmp_path, task) / "count").read_text() == "changed\n"


@pytest.mark.parametrize("ref", ["side/one", "first", "commit"])
async def test_a_branch_a_tag_or_a_commit_is_checked_out_to_a_depth(tmp_path: Path, origin: str, ref: str) -> None:
    """[PREP-1]"""
    named = git(work_of_origin(origin, tmp_path), "rev-parse", "side/one~1") if ref == "commit" else ref
    async with gateway(tmp_path / "data") as client:
        await agent(
            client, hooks={"pre_init": "git rev-list --count HEAD; cat count"}, git={"url": origin, "ref": named, "depth": 1}
        )
        with anyio.fail_after(SECONDS):
            task = await client.send("worker", "N=1")
        lines = await told(client, task)
    assert [line for line in lines if "after" not in line] == ["pre_init: 1", f"pre_init: {1 if ref == 'first' else 3}"]


def work_of_origin(origin: str, folder: Path) -> Path:
    git(folder, "clone", "-q", "--bare", origin, "clone")
    git(folder / "clone", "fetch", "-q", "origin", "side/one:side/one")
    return folder / "clone"


async def test_a_repository_that_is_not_there_fails_the_turn_and_the_next_one_tries_again(tmp_path: Path, origin: str) -> None:
    """[PREP-2]"""
    async with gateway(tmp_path / "data") as client:
        await agent(client, git={"url": f"{origin}-later"})
        with anyio.fail_after(SECONDS):
            task = await client.send("worker", "N=1")
            (detail,) = of_type(await client.events(task["contextId"]), "error_detail")
            lines = await told(client, task)
    assert (state_of(task), error_of(task)["category"]) == ("FAILED", "setup_failed")
    assert error_of(task)["message"] == NEUTRAL["setup_failed"]
    assert "git failed: exit code 128" in detail["body"]["text"]
    assert "not found" in "".join(lines)


# -- hooks


async def test_hooks_run_around_a_turn_where_the_agent_is(tmp_path: Path, place: str) -> None:
    """[PREP-1]"""
    hooks = {
        "pre_init": "echo $OWN; echo 1 >> order",
        "post_init": "echo 2 >> order; echo beside; touch post",
        "sidecar": "echo up; touch up; sleep 300",
        "post_run": "cat order; echo error >&2; exit 3",
    }
    async with gateway(tmp_path, place, stop_seconds=0.1) as client:
        await agent(client, place, hooks, env={"OWN": "mine"})
        with anyio.fail_after(SECONDS):
            async with calling(client, "N=2 HANG", agent="worker") as call:
                for name in ("up", "post"):
                    await there(work_of(tmp_path, call.task) / name)
                await cancel(client, call.task["id"], "worker")
            again = await client.send("worker", "N=1", contextId=call.task["contextId"])
        lines = without_times(await told(client, call.task))
    assert lines[:2] == ["pre_init: mine", "pre_init: done"]
    assert {"post_init: beside", "sidecar: up"} <= set(lines)
    first = lines.index("post_run: 1")
    assert lines[first : first + 4] == ["post_run: 1", "post_run: 2", "post_run: error", "post_run: exit code 3"]
    assert [lines.count(one) for one in ("pre_init: done", "post_run: exit code 3")] == [1, 2]
    assert (call.states[-1], state_of(again)) == ("CANCELED", "COMPLETED")


async def there(made: Path) -> None:
    while not await anyio.Path(made).exists():  # noqa: ASYNC110  (nobody tells)
        await anyio.sleep(0.02)


async def test_a_hook_that_fails_before_the_agent_fails_the_turn_until_it_succeeds(tmp_path: Path) -> None:
    """[PREP-2]"""
    async with gateway(tmp_path) as client:
        await agent(client, hooks={"pre_init": "echo trying; [ -e good ] || exit 7; echo good"})
        with anyio.fail_after(SECONDS):
            task = await client.send("worker", "N=1")
            before = of_type(await client.events(task["contextId"]), "chunk")
            (work_of(tmp_path, task) / "good").touch()
            again = await client.send("worker", "N=1", contextId=task["contextId"])
        lines = without_times(await told(client, task))
    assert (state_of(task), error_of(task)["category"], before) == ("FAILED", "setup_failed", [])
    assert state_of(again) == "COMPLETED"
    assert lines == ["pre_init: trying", "pre_init: exit code 7", "pre_init: trying", "pre_init: good", "pre_init: done"]


async def test_a_hook_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """[PREP-2]"""
    async with gateway(tmp_path, stop_seconds=0.1) as client:
        named = {"pre_init": {"command": "(setsid sleep 961 &); echo $$ > pid; sleep 961", "seconds": 0.5}}
        await make_agent(client, "worker", "rehearsal", hooks=named)
        with anyio.fail_after(SECONDS):
            task = await client.send("worker", "N=1")
        lines = without_times(await told(client, task))
    assert error_of(task)["category"] == "setup_failed"
    assert lines == ["pre_init: was not done within 0.5 s"]
    assert not [one for one in psutil.process_iter(["cmdline"]) if "961" in (one.info["cmdline"] or ())]


async def test_a_turn_that_is_canceled_while_it_is_prepared_is_canceled(tmp_path: Path) -> None:
    async with gateway(tmp_path, stop_seconds=0.1) as client:
        await agent(client, hooks={"pre_init": "touch up; sleep 300"})
        with anyio.fail_after(SECONDS):
            now = {"returnImmediately": True}
            task = await client.send("worker", "N=1", configuration=now)
            await there(work_of(tmp_path, task) / "up")
            await cancel(client, task["id"], "worker")
            over = await client.get("worker", task["id"])
    assert state_of(over) == "CANCELED"


async def test_what_runs_beside_an_agent_ends_with_its_turn(tmp_path: Path, place: str) -> None:
    """[PREP-2]"""
    async with gateway(tmp_path, place, stop_seconds=0.1) as client:
        await agent(client, place, {"sidecar": "while :; do date +%s%N > beat; sleep 0.05; done"})
        with anyio.fail_after(SECONDS):
            async with calling(client, "N=2 HANG", agent="worker") as call:
                await call.until(speaks)
                beat = anyio.Path(work_of(tmp_path, call.task) / "beat")
                await there(work_of(tmp_path, call.task) / "beat")
                await cancel(client, call.task["id"], "worker")
        last = await beat.read_text()
        await client.send("worker", "N=1")  # another session; meanwhile nothing beats in the first one
        assert await beat.read_text() == last
    assert call.states[-1] == "CANCELED"


# -- what an owner may say


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"git": {"url": "ssh://git@example.com/x"}}, "no http or https URL"),
        ({"git": {"url": "https://user:password@example.com/x"}}, "no http or https URL"),
        ({"git": {"url": "https://example.com/x", "ref": "--upload-pack=x"}}, "no branch, tag or commit"),
        ({"git": {"url": "https://example.com/x", "ref": "a..b"}}, "no branch, tag or commit"),
        ({"git": {"url": "https://example.com/x", "depth": 0}}, "greater than or equal to 1"),
        ({"git": {"ref": "main"}}, "url"),
        ({"hooks": {"before": {"command": "true"}}}, "There is no hook 'before'"),
        ({"hooks": {"pre_init": {"command": ""}}}, "at least 1"),
        ({"hooks": {"pre_init": {"command": "true", "seconds": 4000}}}, "3600"),
        ({"hooks": {"pre_init": "true"}}, "hooks.pre_init"),
        ({"hooks": {"pre_init": {"seconds": 5}}}, "The hook 'pre_init' has no command"),
    ],
)
async def test_what_cannot_be_is_refused(tmp_path: Path, changes: Json, words: str) -> None:
    async with gateway(tmp_path) as client:
        with pytest.raises(AssertionError, match=words.replace(".", r"\.")):
            await make_agent(client, "worker", "rehearsal", **changes)


async def test_hooks_are_changed_one_by_one_and_a_session_keeps_its_own(tmp_path: Path) -> None:
    async with gateway(tmp_path) as client:
        await agent(client, hooks={"pre_init": "echo old", "post_run": "echo after"})
        task = await client.send("worker", "N=1")
        await client.owner(
            "agent.update", name="worker", changes={"hooks": {"pre_init": None, "post_run": {"command": "echo new"}}}
        )
        await client.owner("agent.update", name="worker", changes={"hooks": {"post_run": {"seconds": 30}}})
        shown = await client.owner("agent.show", name="worker")
        old = await client.send("worker", "N=1", contextId=task["contextId"])
        new = await client.send("worker", "N=1")
        lines = {one["id"]: [line for line in await told(client, one) if "after " not in line] for one in (old, new)}
    assert shown["values"]["hooks"]["value"] == {"post_run": {"command": "echo new", "seconds": 30}}
    assert lines[old["id"]] == ["pre_init: old", "post_run: after", "post_run: after"]
    assert lines[new["id"]] == ["post_run: new"]
