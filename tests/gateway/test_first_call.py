"""One call from the wire to the runtime and back, on the rehearsal runtime."""

import shutil
from dataclasses import replace
from pathlib import Path

import anyio

from adapters.registration import profiles
from gateway.agents import best_runtime
from tests.support import serving, streamed_text, text_of


async def test_a_blocking_message_answers_the_completed_task(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            task = await gateway.send("hello", "N=3")
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert text_of(task) == "word0 word1 word2 "


async def test_a_stream_tells_the_task_its_text_and_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with anyio.fail_after(20):
            frames = [frame async for frame in gateway.stream("hello", "N=50 D=1000")]
    assert "task" in frames[0].result
    assert streamed_text(frames) == "".join(f"word{n} " for n in range(50))
    assert frames[-1].result["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    ids = [int(frame.id) for frame in frames if frame.id]
    assert ids == sorted(set(ids))


def test_the_first_agent_runs_on_what_is_there_and_has_a_key_else_on_what_needs_none() -> None:
    keyless = profiles()["rehearsal"]
    keyed = replace(keyless, name="keyed", executable="sh", key_env={"acme": "ACME_KEY"})
    elsewhere = replace(keyed, name="elsewhere", executable="no-such-program")
    known = {one.name: one for one in (elsewhere, keyed, keyless)}
    path = {"PATH": str(Path(shutil.which("sh") or "").parent)}
    assert best_runtime(known, path | {"ACME_KEY": "k"}) == "keyed"
    assert best_runtime(known, path) == "rehearsal"
    assert best_runtime({"keyed": keyed}, path) is None


async def test_without_any_runtime_there_is_no_first_agent(tmp_path: Path) -> None:
    async with serving(tmp_path, runtimes={}) as gateway:
        assert (await gateway.owner("agent.list"))["agents"] == []
