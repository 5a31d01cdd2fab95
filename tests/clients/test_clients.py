"""Other people's clients, each in an environment of its own, play one set of scenarios on a gateway as a real process.

The Python SDK of 0.3, the JavaScript SDK of 1.x and of 0.3, on every transport they have, and Google's ADK. [A2A-20]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import anyio
import pytest

from tests.clients.conftest import played
from tests.gateway.deliver.receivers import Receiver, receiving
from tests.support import GatewayProcess, Json

STREAM: Json = {
    "first": "task",
    "progress": ["sleep 0; echo rehearsal", "Done"],
    "tools": [],
    "text": "word0 word1 The command said: rehearsal\n",
    "state": "completed",
    "final": True,
}
SCENARIOS: Json = {
    "card": ["echo", True, True],
    "send": ["completed", "word0 word1 word2 ", ["N=3"]],
    "get": True,
    "follow up": [True, False, "Turn 2. Before this you said: N=3\nword0 "],
    "stream": STREAM,
    "stream with tool events": STREAM | {"tools": ["tool_start", "tool_result"]},
    "cancel": [True, "canceled", "TaskNotCancelableError"],
    "resubscribe": ["task", "canceled"],
    "question": ["input-required", "Shall I go on?", True, "completed"],
    "push": [[["a", True], ["b", True]], ["a", True], [["a", True], ["b", True]], [["a", True]]],
    "errors": {
        "no such task": "TaskNotFoundError",
        "no such agent": "TaskNotFoundError",
        "no parts": "RequestMalformedError",
    },
}
SET_AND_GET = [["a", True], ["a", True]]  # 0.3's Python client can do no more with push configs
# The Python client of 0.3 tells errors as its transports have them: again canceled, no task, no agent, no parts.
CODES = {
    "JSONRPC": ("-32002", "-32001", "404", "-32602"),
    "HTTP+JSON": ("400", "404", "404", "400"),
    "GRPC": ("FAILED_PRECONDITION", "NOT_FOUND", "NOT_FOUND", "INVALID_ARGUMENT"),
}
FIELD = '{"errors":[{"field":"message.parts","message":"Field must contain at least one element."}]}'
JS03_NO_PARTS = {
    "JSONRPC": f"JSON-RPC error: Validation failed (Code: -32602) Data: {FIELD}",
    "HTTP+JSON": "REST error: Validation failed (Code: -32602)",
    "GRPC": "GRPC error for sendMessage! 3 InvalidParamsError: Validation failed",
}

on_every_transport = pytest.mark.parametrize("transport", ["JSONRPC", "HTTP+JSON", "GRPC"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def play(name: str, gateway: GatewayProcess, transport: str, receiver: Receiver) -> Json:
    grpc = gateway.env["SWITCHBOARD_GRPC_PUBLIC_ADDRESS"]
    found: Json = played(name, gateway.url, transport, f"{receiver.url}/ok", grpc)
    anyio.run(receiver.until, lambda: receiver.got and receiver.got[-1].said == "canceled")
    assert {got.headers.get("x-a2a-notification-token") for got in receiver.got} == {"t0ken"}
    return found


@on_every_transport
def test_the_python_client_of_0_3(gateway: GatewayProcess, receiver: Receiver, transport: str) -> None:
    again, no_task, no_agent, no_parts = CODES[transport]
    errors = {"no such task": no_task, "no such agent": no_agent, "no parts": no_parts}
    expected = SCENARIOS | {"cancel": [True, "canceled", again], "push": SET_AND_GET, "errors": errors}
    assert play("a2a-sdk 0.3", gateway, transport, receiver) == expected


@on_every_transport
def test_the_javascript_client_of_0_3(gateway: GatewayProcess, receiver: Receiver, transport: str) -> None:
    errors = SCENARIOS["errors"] | {"no parts": JS03_NO_PARTS[transport]}
    assert play("@a2a-js/sdk 0.3", gateway, transport, receiver) == SCENARIOS | {"errors": errors}


@on_every_transport
def test_the_javascript_client_of_1_x(gateway: GatewayProcess, receiver: Receiver, transport: str) -> None:
    expected = {
        name: found | {"final": None} if "stream" in name else found for name, found in SCENARIOS.items()
    }  # 1.0 has none
    assert play("@a2a-js/sdk 1.x", gateway, transport, receiver) == expected


def test_googles_adk_resolves_a_card_and_calls(web_gateway: GatewayProcess) -> None:
    """A turn with a tool, a conversation that goes on, a failure, a question and its answer."""
    found = played("google-adk", f"{web_gateway.url}/agents/echo/.well-known/agent-card.json")
    said = [re.sub(r"inc_\w+", "inc_", text) for turn in found["said"] for text in turn["texts"]]
    assert said == [
        "word0 word1 The command said: rehearsal\n",
        "Turn 2. Before this you said: N=2 SLEEPTOOL=0\nword0 ",
        "The agent could not sign in to its model provider. (incident inc_)",
        "{'input_required': 'Shall I go on?'}",
        "Turn 5. Before this you said: N=1 ASK\nword0 ",
    ]
    assert [turn["errors"] for turn in found["said"]] == [[]] * 5
    assert "The agent echo." in found["description"]
