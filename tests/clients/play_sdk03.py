"""The scenarios, played by the Python SDK's client of A2A 0.3: `play_sdk03.py ORIGIN TRANSPORT HOOK GRPC_ADDRESS`.

Runs in a virtual environment of its own and knows nothing of this project. Prints what was found as JSON.
"""

import asyncio
import json
import sys
import uuid
from typing import Any

import grpc.aio
import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import (
    AgentCard,
    AgentInterface,
    GetTaskPushNotificationConfigParams,
    Message,
    MessageSendConfiguration,
    PushNotificationConfig,
    Task,
    TaskIdParams,
    TaskPushNotificationConfig,
    TaskQueryParams,
)

HANGS = "N=1 SLEEPTOOL=600"
TOOL_EVENTS = "https://switchboard.dev/extensions/tool-events/v1"
AGENT = "a2a-tenant"  # names the agent in gRPC, whose 0.3 has no other place for it
Json = dict[str, Any]


class OneAnswer(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, agent: str) -> None:
        self.agent = agent

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(named(details, self.agent), request)


class ManyAnswers(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, agent: str) -> None:
        self.agent = agent

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(named(details, self.agent), request)


def named(details: Any, agent: str) -> Any:
    return details._replace(metadata=grpc.aio.Metadata(*(details.metadata or ()), (AGENT, agent)))


class Caller:
    """A client made from the agent's card; one that streams, and one that does not."""

    def __init__(self, http: httpx.AsyncClient, card: AgentCard, transport: str, agent: str) -> None:
        def channel(url: str) -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(url, interceptors=[OneAnswer(agent), ManyAnswers(agent)])

        self.plain, self.streaming = (
            ClientFactory(
                ClientConfig(
                    streaming=streaming,
                    httpx_client=http,
                    grpc_channel_factory=channel,
                    supported_transports=[transport],
                    use_client_preference=True,
                )
            ).create(card)
            for streaming in (False, True)
        )

    async def send(self, text: str, *, context_id: str | None = None, task_id: str | None = None, later: bool = False) -> Task:
        configuration = MessageSendConfiguration(blocking=not later)
        found = self.plain.send_message(message(text, context_id, task_id), configuration=configuration)
        return [task async for task, _ in found][-1]

    async def close(self) -> None:
        await self.plain.close()
        await self.streaming.close()


def message(text: str, context_id: str | None, task_id: str | None) -> Message:
    parts: Any = [{"kind": "text", "text": text}] if text else []
    return Message(message_id=uuid.uuid4().hex, role="user", parts=parts, context_id=context_id, task_id=task_id)


async def play(caller: Caller, nobody: Caller, card: AgentCard, hook: str) -> Json:
    sent = await caller.send("N=3")
    follow_up = await caller.send("N=1", context_id=sent.context_id)
    return {
        "card": [card.name, card.capabilities.streaming, card.capabilities.push_notifications],
        "send": [state(sent), text_of(sent), [text(message) for message in sent.history or []]],
        "get": await caller.plain.get_task(TaskQueryParams(id=sent.id)) == sent,
        "follow up": [follow_up.context_id == sent.context_id, follow_up.id == sent.id, text_of(follow_up)],
        "stream": await stream(caller, []),
        "stream with tool events": await stream(caller, [TOOL_EVENTS]),
        "cancel": await cancel(caller),
        "resubscribe": await resubscribe(caller),
        "question": await question(caller),
        "push": await push(caller, hook),
        "errors": await errors(caller, nobody),
    }


async def stream(caller: Caller, extensions: list[str]) -> Json:
    """As the SDK's own task manager puts the pieces together."""
    sent = message("N=2 SLEEPTOOL=0", None, None)
    events = [event async for event in caller.streaming.send_message(sent, extensions=extensions)]
    task, update = events[-1]
    told = [update.status.message for _, update in events if update and update.kind == "status-update"]
    parts = [part.root for message in told if message for part in message.parts]
    return {
        "first": "task" if events[0][1] is None else "update",
        "progress": [part.text for part in parts if part.kind == "text"],
        "tools": [part.data["type"] for part in parts if part.kind == "data"],
        "text": text_of(task),
        "state": state(task),
        "final": update.final,
    }


async def cancel(caller: Caller) -> list[Any]:
    task = await caller.send(HANGS, later=True)
    canceled = await caller.plain.cancel_task(TaskIdParams(id=task.id))
    return [canceled.id == task.id, state(canceled), await refused(caller.plain.cancel_task(TaskIdParams(id=task.id)))]


async def resubscribe(caller: Caller) -> list[Any]:
    task = await caller.send(HANGS, later=True)
    events = []
    async for event in caller.streaming.resubscribe(TaskIdParams(id=task.id)):
        if not events:
            await caller.plain.cancel_task(TaskIdParams(id=task.id))
        events.append(event)
    return ["task" if events[0][1] is None else "update", state(events[-1][0])]


async def question(caller: Caller) -> list[Any]:
    asked = await caller.send("N=1 ASK")
    answered = await caller.send("N=2 yes", context_id=asked.context_id, task_id=asked.id)
    return [state(asked), text(asked.status.message), answered.id == asked.id, state(answered)]


async def push(caller: Caller, hook: str) -> list[Any]:
    """This SDK can neither list nor delete."""
    task = await caller.send(HANGS, later=True)
    config = PushNotificationConfig(id="a", url=hook, token="t0ken")
    made = await caller.plain.set_task_callback(TaskPushNotificationConfig(task_id=task.id, push_notification_config=config))
    asked = GetTaskPushNotificationConfigParams(id=task.id, push_notification_config_id="a")
    got = await caller.plain.get_task_callback(asked)
    await caller.plain.cancel_task(TaskIdParams(id=task.id))
    return [
        found.task_id == task.id and [found.push_notification_config.id, found.push_notification_config.url == hook]
        for found in (made, got)
    ]


async def errors(caller: Caller, nobody: Caller) -> Json:
    return {
        "no such task": await refused(caller.plain.get_task(TaskQueryParams(id="tsk_nope"))),
        "no such agent": await refused(nobody.plain.get_task(TaskQueryParams(id="tsk_nope"))),
        "no parts": await refused(caller.send("")),
    }


async def refused(call: Any) -> str:
    """The error's code, as the transport has it."""
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return exc.code().name
    except Exception as exc:
        error = getattr(exc, "error", None)
        code = getattr(getattr(error, "error", error), "code", None) or getattr(exc, "status_code", None)
        return str(code or repr(exc))
    return "taken"


def state(task: Task) -> str:
    return task.status.state.value


def text(message: Message | None) -> str:
    return "".join(part.root.text for part in message.parts) if message else ""


def text_of(task: Task) -> str:
    return "".join(part.root.text for artifact in task.artifacts or [] for part in artifact.parts)


async def main(origin: str, transport: str, hook: str, grpc_address: str) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, f"{origin}/agents/echo").get_agent_card()
        card.additional_interfaces = [*(card.additional_interfaces or []), AgentInterface(transport="GRPC", url=grpc_address)]
        away = AgentCard.model_validate_json(card.model_dump_json().replace("/agents/echo", "/agents/nobody"))
        caller, nobody = Caller(http, card, transport, "echo"), Caller(http, away, transport, "nobody")
        print(json.dumps(await play(caller, nobody, card, hook)))
        await caller.close()
        await nobody.close()


asyncio.run(main(*sys.argv[1:]))
