"""The same turns on all four CLIs, the same assertions for all: text, tools, files, a second turn."""

from __future__ import annotations

import base64

import pytest

from tests.e2e.legs import Leg, side
from tests.e2e.model import SCENARIOS, text_of_scenario
from tests.e2e.stage import Played, Stage, machine_paths, unique
from tests.support import Json

HEAD, TAIL = ["task", "working"], ["text", "whole text", "completed"]
CALL = ["tool_start", "tool_result"]


def started(tool: str, title: str, **input: object) -> Json:
    return {"type": "tool_start", "tool": tool, "input": input, "title": title}


def returned(output: str, code: int | None = 0) -> Json:
    return {"type": "tool_result", "output": output, "is_error": bool(code), "exit_code": code, "truncated": False}


def commands(scenario: str) -> list[str]:
    return [call["command"] for step in SCENARIOS[scenario]["steps"] for call in step.get("calls", ())]


async def test_text_comes_in_pieces_and_whole_at_the_end(stage: Stage, leg: Leg) -> None:
    played = await stage.play(leg, "SCN-text")
    assert played.kinds == [*HEAD, *TAIL]
    assert played.text == text_of_scenario("SCN-text")
    assert pieces(played) > 1


def pieces(played: Played) -> int:
    updates = [frame.result["artifactUpdate"] for frame in played.frames if "artifactUpdate" in frame.result]
    return len([update for update in updates if not update.get("lastChunk")])


async def test_words_arrive_as_the_model_said_them(stage: Stage, leg: Leg) -> None:
    assert (await stage.play(leg, "SCN-words")).text == text_of_scenario("SCN-words")


async def test_a_prompt_is_never_a_command_of_the_cli(stage: Stage, leg: Leg) -> None:
    assert (await stage.play(leg, "/help SCN-text")).text == text_of_scenario("SCN-text")


@pytest.mark.parametrize(
    ("scenario", "output", "code"), [("SCN-tool", "alpha", 0), ("SCN-fail", "beta\ngamma", 1)], ids=["works", "fails"]
)
async def test_a_command_is_told_with_what_it_printed_and_its_exit_code(
    stage: Stage, leg: Leg, scenario: str, output: str, code: int
) -> None:
    played = await stage.play(leg, scenario)
    [command] = commands(scenario)
    assert played.kinds == [*HEAD, "text", *CALL, *TAIL]
    assert played.tools == [started("shell", command, command=command), returned(output, code)]
    assert played.text == text_of_scenario(scenario)


async def test_what_commands_print_looks_the_same_whoever_runs_them(stage: Stage, leg: Leg) -> None:
    played = await stage.play(leg, "SCN-odd")
    assert [tool["input"]["command"] for tool in played.tools[::2]] == commands("SCN-odd")
    assert played.tools[1::2] == [
        returned("lead\n\n\ntail"),
        returned("red"),
        returned(".\n~"),
        returned("cat: missing.txt: No such file or directory", 1),
        returned("sh: no_such_command: command not found", 127),
        returned("out\nerr\nout2"),
        returned("exit code", 3),
        returned("no newline"),
        returned("x\r\ny"),
        returned(""),
        returned("", 4),
        returned("1\n2\n3\n/"),
        returned("", 5),
        returned("", 1),
        returned("\ufffd\ufffd"),
        returned("a\tb"),
    ]


async def test_of_two_commands_at_once_each_has_its_own_result(stage: Stage, leg: Leg) -> None:
    """Whose work begins first is the runtime's: some run both at once, with others the second waits for the first."""
    played = await stage.play(leg, "SCN-par")
    one, two = commands("SCN-par")
    starts = [tool for tool in played.tools if tool["type"] == "tool_start"]
    assert sorted(starts, key=lambda tool: commands("SCN-par").index(tool["title"])) == [
        started("shell", one, command=one),
        started("shell", two, command=two),
    ]
    assert [result_of(played, one), result_of(played, two)] == [("one", 0), ("two", 1)]
    assert [kind for kind in played.kinds if not kind.startswith("tool_")] == [*HEAD, "text", *TAIL]


def result_of(played: Played, command: str) -> tuple[str, int]:
    """What the call of a command gave, found by its call id: output and exit code."""
    [id] = [call["call_id"] for call in played.calls if call.get("input") == {"command": command}]
    [result] = [call for call in played.calls if call["type"] == "tool_result" and call["call_id"] == id]
    return result["output"], result["exit_code"]


async def test_a_file_is_written_and_changed_in_canonical_words(stage: Stage, leg: Leg) -> None:
    played = await stage.play(leg, "SCN-edit")
    write, edit, look = (step["calls"][0] for step in SCENARIOS["SCN-edit"]["steps"][:3])
    old, new = side(edit["lines"], "-"), side(edit["lines"], "+")
    path = "notes.txt"
    assert played.tools == [
        started("write_file", "Write notes.txt", path=path, content=write["content"]),
        returned("", None),
        started("edit_file", "Edit notes.txt", path=path, edits=[{"old": old, "new": new}]),
        returned("", None),
        started("shell", look["command"], command=look["command"]),
        returned(new.rstrip("\n")),
    ]


async def test_a_file_written_by_its_whole_path_is_told_by_its_place_in_the_workspace(stage: Stage, leg: Leg) -> None:
    """The model is told the path of its workspace by the runtime, and uses it."""
    context = unique("ctx").replace(" ", "-")
    path = stage.workspace(context) / "notes.txt"
    marker = await stage.model.learn("SCN-whole-path", {"tool": "write_file", "path": str(path), "content": "a line\n"})
    async with stage.client() as client:
        played = await stage.say(client, leg.agent, marker, contextId=context)
    assert played.tools == [
        started("write_file", "Write notes.txt", path="notes.txt", content="a line\n"),
        returned("", None),
    ]
    assert path.read_text("utf-8") == "a line\n"
    assert machine_paths([frame.data for frame in played.frames]) == []


async def test_a_second_turn_goes_on_in_the_runtimes_own_conversation(stage: Stage, leg: Leg) -> None:
    """The model hears what was said in the first turn, and says something else to somebody new."""
    stranger = await stage.play(leg, "SCN-again")
    prompts = [unique("SCN-text"), unique("SCN-again")]
    async with stage.client() as client:
        first = await stage.say(client, leg.agent, prompts[0])
        second = await stage.say(client, leg.agent, prompts[1], contextId=first.context_id)
    assert stranger.text == "We have never met."
    assert second.text == "We have met before."
    assert second.kinds == [*HEAD, *TAIL]
    if not leg.long_requests:
        asked = (await stage.model.requests(prompts[1]))[-1]
        assert [said in asked for said in (*prompts, first.text)] == [True, True, True]


async def test_a_file_is_read_from_the_inbox_and_others_come_from_the_outbox(stage: Stage, leg: Leg) -> None:
    """[FILE-1] [FILE-4]"""
    [command] = commands("SCN-files")
    parts = [{"text": "SCN-files"}, {"raw": base64.b64encode(b"what the note says").decode(), "filename": "note.txt"}]
    async with stage.client() as client:
        played = await stage.say(client, leg.agent, "", parts=parts)
        task = await client.get(leg.agent, played.task_id)
    assert played.tools == [started("shell", command, command=command), returned("what the note says")]
    assert {made["name"]: made["parts"] for made in task["artifacts"]} == {
        "response": [{"text": "They are there."}],
        "where.txt": [{"text": "/workspace\n", "filename": "where.txt", "mediaType": "text/plain"}],
        "zeros.bin": [
            {"raw": base64.b64encode(bytes(3000)).decode(), "filename": "zeros.bin", "mediaType": "application/octet-stream"}
        ],
    }
    assert machine_paths([frame.data for frame in played.frames]) == []
