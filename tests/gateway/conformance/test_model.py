"""The kit's model says the same in each API, streamed or not, and tells where the conversation is from what it is sent."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from gateway.conformance.model import Model, Step

Json = dict[str, Any]

SCRIPTS = {"tool": [Step(("Run", "ning."), ("shell", "echo 1")), Step(("It ran.",))], "bare": [Step((), ("shell", "echo 2"))]}
SCHEMA = {"type": "OBJECT", "properties": {"cmd": {"type": "STRING"}, "n": {"type": "INTEGER"}}, "required": ["cmd", "n"]}
CALL = {"name": "run_shell", "input": {"n": 1, "cmd": "echo 1"}}
TEXT = "Please: scene:tool."
GEMINI = "v1beta/models/any-1"


@pytest.fixture
def model() -> Model:
    return Model(SCRIPTS)


async def posted(model: Model, path: str, body: Json) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(model.app()), base_url="http://model") as http:
        return await http.post(f"/{path}", json=body)


async def told(model: Model, path: str, body: Json) -> Json:
    answer = await posted(model, path, body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def events(answer: httpx2.Response) -> list[Json]:
    """The data of Server-Sent Events, each with the name it came under."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for frame in answer.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines())
        found.append({"event": fields.get("event"), **json.loads(fields["data"])})
    return found


# -- Responses

TOOLS = [{"type": "function", "name": "run_shell", "parameters": SCHEMA}, {"type": "web_search"}]


def of_response(response: Json) -> tuple[str, list[Json]]:
    text = "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])
    made = [item for item in response["output"] if item["type"] == "function_call"]
    return text, [{"name": item["name"], "input": json.loads(item["arguments"])} for item in made]


async def test_responses_go_on_in_a_conversation_that_is_sent_whole(model: Model) -> None:
    first = await told(model, "v1/responses", {"input": TEXT, "tools": TOOLS})
    assert of_response(first) == ("Running.", [CALL])
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "1"}
    items = [{"role": "user", "content": TEXT}, *first["output"], result]
    second = await told(model, "v1/responses", {"input": items, "tools": TOOLS})
    assert of_response(second) == ("It ran.", [])
    assert [(one.scene, one.step, one.tools) for one in model.asked] == [("tool", 0, ["run_shell"]), ("tool", 1, ["run_shell"])]


async def test_responses_go_on_from_the_one_that_is_named(model: Model) -> None:
    first = await told(model, "v1/responses", {"input": TEXT, "tools": TOOLS})
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "1"}
    for _ in range(2):  # the same again, as after a crash
        second = await told(model, "v1/responses", {"input": [result], "previous_response_id": first["id"], "tools": TOOLS})
        assert of_response(second) == ("It ran.", [])
    assert TEXT in model.asked[-1].said
    assert second["id"] != first["id"]
    unknown = await posted(model, "v1/responses", {"input": [result], "previous_response_id": "resp_nobody"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "previous_response_not_found")


async def test_a_streamed_response_is_numbered_and_ends_as_the_whole_one(model: Model) -> None:
    body = {"input": TEXT, "tools": TOOLS}
    whole = await told(model, "v1/responses", body)
    found = events(await posted(model, "v1/responses", {**body, "stream": True}))
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    assert all(one["event"] == one["type"] for one in found)
    assert found[-1]["response"] == whole
    assert "".join(one["delta"] for one in found if one["type"] == "response.output_text.delta") == "Running."
    done = [one["item"] for one in found if one["type"] == "response.output_item.done"]
    assert done == whole["output"]
    assert [one["output_index"] for one in found if one["type"] == "response.output_item.added"] == [0, 1]


async def test_a_response_may_be_a_call_alone(model: Model) -> None:
    response = await told(model, "v1/responses", {"input": "scene:bare", "tools": TOOLS})
    assert [item["type"] for item in response["output"]] == ["function_call"]


# -- Gemini

CONTENTS = [{"parts": [{"text": TEXT}]}]


def declared(camel: bool) -> list[Json]:
    return [{"functionDeclarations" if camel else "function_declarations": [{"name": "run_shell", "parameters": SCHEMA}]}]


def of_contents(answers: list[Json]) -> tuple[str, list[Json]]:
    parts = [part for one in answers for part in one["candidates"][0]["content"]["parts"]]
    made = [part["functionCall"] for part in parts if "functionCall" in part]
    return "".join(part.get("text", "") for part in parts), [{"name": one["name"], "input": one["args"]} for one in made]


@pytest.mark.parametrize("camel", [True, False])
async def test_generated_content_is_the_same_whole_as_events_and_as_an_array(model: Model, camel: bool) -> None:
    body = {"contents": CONTENTS, "tools": declared(camel)}
    whole = await told(model, f"{GEMINI}:generateContent", body)
    streamed = events(await posted(model, f"{GEMINI}:streamGenerateContent?alt=sse", body))
    array = (await posted(model, f"{GEMINI}:streamGenerateContent", body)).json()
    assert of_contents([whole]) == of_contents(streamed) == of_contents(array) == ("Running.", [CALL])
    assert len(streamed) == len(array) == 3
    assert [one["candidates"][0].get("finishReason") for one in array] == [None, None, "STOP"]


async def test_generated_content_goes_on_after_a_result(model: Model) -> None:
    whole = await told(model, f"{GEMINI}:generateContent", {"contents": CONTENTS, "tools": declared(True)})
    result = {"role": "user", "parts": [{"functionResponse": {"name": "run_shell", "response": {"output": "scene:bare"}}}]}
    contents = [*CONTENTS, whole["candidates"][0]["content"], result]
    assert of_contents([await told(model, f"{GEMINI}:generateContent", {"contents": contents})]) == ("It ran.", [])


async def test_a_method_there_is_not_is_refused(model: Model) -> None:
    refused = await posted(model, f"{GEMINI}:embedContent", {})
    assert (refused.status_code, refused.json()["error"]["status"]) == (404, "NOT_FOUND")


# -- chat completions and messages


async def test_chat_and_messages_say_whole_what_they_say_in_pieces(model: Model) -> None:
    asked = {"messages": [{"role": "user", "content": TEXT}]}
    functions = {"tools": [{"type": "function", "function": {"name": "run_shell", "parameters": SCHEMA}}]}
    message = (await told(model, "v1/chat/completions", asked | functions))["choices"][0]["message"]
    [made] = message["tool_calls"]
    assert (message["content"], json.loads(made["function"]["arguments"])) == ("Running.", CALL["input"])
    blocks = (await told(model, "v1/messages", asked | {"tools": [{"name": "run_shell", "input_schema": SCHEMA}]}))["content"]
    assert [blocks[0]["text"], blocks[1]["input"]] == ["Running.", CALL["input"]]
