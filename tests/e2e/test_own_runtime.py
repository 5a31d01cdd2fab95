"""The scenarios on the reference runtime, an image of its own: its callers read what those of the four CLIs read. [HIDE-2]"""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from docker.client import DockerClient

from adapters.launch.container import TURN
from adapters.launch.hands import HANDS
from tests import needs
from tests.e2e.legs import LEGS, OWN
from tests.e2e.model import text_of_scenario
from tests.e2e.stage import SECONDS, Played, Stage, machine_paths, unique
from tests.e2e.test_invisible import ANSWERS, ERRORS, lines
from tests.gateway.conformance import made
from tests.support import text_of

AT_ONCE = {"returnImmediately": True}


@pytest.fixture(scope="module")
def engine(stage: Stage) -> Iterator[DockerClient]:
    """At the end the sandboxes are removed, which outlive the gateway."""
    needs.an_engine()
    needs.an_engine("gateway")
    client = DockerClient.from_env()
    yield client
    mine = {"label": f"{HANDS}={stage.gateway.data_dir.resolve() / 'sessions'}"}
    for one in client.api.containers(all=True, filters=mine):
        client.api.remove_container(one["Id"], force=True)
    client.close()


@pytest.fixture
async def own(stage: Stage, engine: DockerClient) -> Stage:
    """The stage with the reference runtime pushed, and an agent on it; made once."""
    async with stage.client() as client:
        if OWN.agent not in [agent["name"] for agent in (await client.owner("agent.list"))["agents"]]:
            image = await anyio.to_thread.run_sync(made.minimal, engine)
            facts = {"providers": ["openai"], "capabilities": ["steer"]}
            await client.owner("runtimes.push", name=OWN.runtime, image=image, unchecked=True, **facts)
            about = {"runtime": OWN.runtime, "model": OWN.model, "placement": "docker"}
            await client.owner("agent.create", name=OWN.agent, env=OWN.env(stage.model.url), **about)
    return stage


def containers_of(engine: DockerClient, turn: str) -> list[str]:
    found = engine.api.containers(all=True, filters={"label": f"{TURN}={turn}"})
    return [one["Id"] for one in found]


@pytest.mark.parametrize("scenario", [*ANSWERS, *ERRORS])
async def test_a_stream_is_the_same_as_any_clis(own: Stage, scenario: str) -> None:
    expected, found = await own.play(LEGS[0], scenario), await own.play(OWN, scenario)
    assert lines(found) == lines(expected)
    assert machine_paths([frame.data for frame in found.frames]) == []


async def test_a_second_turn_goes_on_in_its_conversation(own: Stage) -> None:
    prompts = [unique("SCN-text"), unique("SCN-again")]
    async with own.client() as client:
        first = await own.say(client, OWN.agent, prompts[0])
        second = await own.say(client, OWN.agent, prompts[1], contextId=first.context_id)
    assert second.text == "We have met before."
    asked = (await own.model.requests(prompts[1]))[-1]
    assert [said in asked for said in (*prompts, first.text)] == [True, True, True]


async def test_a_cancel_ends_it_in_the_middle_of_its_text_and_of_a_command(own: Stage, engine: DockerClient) -> None:
    for scenario, seen in (("SCN-slow", "text"), ("SCN-long-tool", "tool_start")):
        with anyio.fail_after(SECONDS):
            async with own.client() as client:
                played = await own.until(client, OWN.agent, scenario, lambda so_far, seen=seen: seen in so_far.kinds)  # type: ignore[misc]
                turn = await own.turn_of(client, played)
                assert containers_of(engine, turn)
                answer = await client.rpc(OWN.agent, "CancelTask", {"id": played.task_id})
                assert containers_of(engine, turn) == []
        assert answer["result"]["status"]["state"] == "TASK_STATE_CANCELED"
        assert text_of_scenario(scenario).startswith(text_of(answer["result"]))


async def test_a_message_joins_its_running_turn(own: Stage) -> None:
    """[STEER-1]"""
    with anyio.fail_after(SECONDS):
        async with own.client() as client:
            played = await own.until(client, OWN.agent, "SCN-hold", lambda so_far: "tool_start" in so_far.kinds)
            await client.send(OWN.agent, "SCN-added", taskId=played.task_id, configuration=AT_ONCE)
            while "given" not in [event["body"].get("kind") for event in await client.events(played.context_id)]:
                await client.http.get(f"{client.url}/health")
            (own.workspace(played.context_id) / "go").touch()
            async for _ in client.frames(OWN.agent, "SubscribeToTask", {"id": played.task_id}):
                pass
            turns = (await client.owner("sessions.show", id=played.context_id))["turns"]
            task = await client.get(OWN.agent, played.task_id)
    assert [turn["yield_reason"] for turn in turns] == ["completed", "steered"]
    assert text_of(task).replace("The tool has run.", "") == "One moment.I heard you."


async def test_killed_in_mid_turn_it_goes_on_and_says_nothing_twice(own: Stage, engine: DockerClient) -> None:
    """[RUN-4]"""
    frames, killed = [], False
    with anyio.fail_after(SECONDS):
        async with own.client() as client:
            async for frame in client.stream(OWN.agent, "SCN-slow"):
                frames.append(frame)
                if not killed and len(Played(frames).text) > 8:
                    killed = True
                    turn = await own.turn_of(client, Played(frames))
                    for one in engine.containers.list(filters={"label": f"{TURN}={turn}"}):
                        if "minimal" in str(one.image.tags):
                            one.kill()
    played = Played(frames)
    assert killed
    assert played.text == text_of_scenario("SCN-slow")
    assert played.status["state"] == "TASK_STATE_COMPLETED"
