"""A worker process that is killed while its turn's image waits for a command in its sandbox. [RUN-4] [BOX-5]"""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from docker.client import DockerClient

from gateway.db.engine import Database
from registry.images import Image, push
from tests import needs
from tests.crash.test_workers import workers
from tests.crash.witness import check_log
from tests.gateway.runtime_api.test_runtime_images import brain, client, containers_of, hands
from tests.gateway.turns.calls import AT_ONCE, of_type
from tests.support import database_url as url_of
from tests.support import gateway_process

__all__ = ["brain", "client", "hands"]

SECONDS = 100
ENDED = ("TASK_STATE_COMPLETED", "TASK_STATE_FAILED")


@pytest.mark.usefixtures("database_url", "hands")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # the workers' own
async def test_a_command_is_not_run_again_whose_worker_was_killed(tmp_path: Path, client: DockerClient, brain: str) -> None:
    """[HAND-5] Another worker goes on: the image is told that nobody knows how far it came, and nothing of it runs."""
    database = Database(url_of(tmp_path))
    await database.start()
    await database.write(lambda conn: push(conn, "mine", Image("brain:1", brain), 1))
    await database.aclose()
    settings = {"agent_image": needs.an_engine(), "turn_backoff_seconds": "0.1"}
    with gateway_process(tmp_path, {"SWITCHBOARD_WORKER": "false"}) as gateway, workers(tmp_path, 1, **settings) as (first,):
        caller = gateway.client()
        with anyio.fail_after(SECONDS):
            await caller.owner("agent.create", name="thinker", runtime="mine", description="It thinks.")
            task = await caller.send("thinker", "EFFECT LONG", configuration=AT_ONCE)
            ran = tmp_path / "sessions" / task["contextId"] / "work/ran.txt"
            while not ran.exists():  # noqa: ASYNC110  (nobody tells)
                await anyio.sleep(0.05)
            with workers(tmp_path, 1, **settings):
                await anyio.to_thread.run_sync(first.process.kill)
                while task["status"]["state"] not in ENDED:
                    await anyio.sleep(0.1)
                    task = await caller.get("thinker", task["id"])
                while containers_of(client, tmp_path):  # noqa: ASYNC110  (nobody tells)
                    await anyio.sleep(0.1)
            events = await caller.events(task["contextId"])
        await caller.http.aclose()
    check_log(events)
    said = "".join(event["body"]["text"] for event in of_type(events, "chunk"))
    assert (task["status"]["state"], said) == ("TASK_STATE_COMPLETED", "attempt 1 effect interrupted True, ran\n0\n")
    assert [event["body"]["attempt"] for event in of_type(events, "turn_started")] == [1, 2]
    commands = [event["body"]["input"]["command"] for event in of_type(events, "tool_start")]
    assert len(commands) == 2
    assert ran.read_text() == "ran\n"
