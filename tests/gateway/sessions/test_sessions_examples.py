"""The examples of specs/session-api.md do what they say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import anyio.to_thread
import pytest

from gateway.cli.dispatch import load
from gateway.sessions.shapes import CreateSession
from tests.support import serving

PAGE = (Path(__file__).parents[3] / "specs/session-api.md").read_text("utf-8")


def example(language: str, words: str) -> str:
    """The one block in a language that holds these words."""
    (found,) = [block for block in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if words in block]
    return str(found)


async def test_the_requests_do(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lines = example("sh", "curl").replace("\\\n", " ").strip().splitlines()
    async with serving(tmp_path) as gateway:

        async def run(line: str, *more: str) -> str:
            words = shlex.split(line.replace("http://127.0.0.1:8000", gateway.url))
            done = await anyio.to_thread.run_sync(lambda: subprocess.run([*words, *more], capture_output=True, text=True))
            return done.stdout

        create, result, events, send = lines
        session = json.loads(await run(create))
        ours = [line.replace("$ID", session["id"]) for line in (result, events, send)]
        found = json.loads(await run(ours[0]))
        assert (found["status"], found["turn"]["yield_reason"]) == ("idle", "completed")
        assert (await run(ours[1], "--max-time", "0.5")).startswith("retry: 1000\n\nid: 1\ndata: {")
        assert json.loads(await run(ours[2]))["delivery"] == "queued"
        await run(ours[0])


def test_the_file_is_one_the_command_takes(tmp_path: Path) -> None:
    for name in ("src/a.py", "data.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a\n")
    path = tmp_path / "dispatch.yaml"
    path.write_text(example("yaml", "agent: hello"))
    body = CreateSession.model_validate(load(path))
    assert isinstance(body.input, list)
    assert [next(iter(part.model_fields_set)) for part in body.input] == ["text", "context", "file"]
