"""Callers that go on calling whatever dies, and hold against the log all that they were told.

A caller makes one call after another: follows it through every cut from where its stream ended, sends again under the
same key what was not answered, cancels, answers questions, or leaves. When its task rests everything is compared.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

import anyio
import httpx2

from tests.crash.found import Found
from tests.crash.gateways import PATIENCE, Gateways
from tests.crash.witness import AGENT, FINAL, check_log, check_turns
from tests.support import HEADERS, Client, Frame, Json, framed, message

RESTING = FINAL | {"TASK_STATE_INPUT_REQUIRED"}
PROMPTS = (
    "N=5",
    "N=60 D=500",
    "N=150 D=2000",
    "N=400 D=2000",
    "N=40 SLEEPTOOL=0.2",
    "N=150 D=1000 SLEEPTOOL=0.5",
    "N=30 D=500 TOOLFAIL",
    "N=100 D=1000 ORPHAN",
    "N=10 ORPHAN SLEEPTOOL=0.3",
    "BIG=300000",
    "N=20 GARBAGE",
    "N=30 D=500 CRASH",
    "N=10 FAIL=rate_limit",
    "N=20 D=500 ASK",
    "N=20 D=500 HANG",
)
How = Literal["follow", "hand in", "leave", "cancel"]


@dataclass
class Call:
    """One task. `prompts`: of its turns, in order; each carries a word of its own."""

    prompts: list[str]
    context_id: str
    how: How
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    frames: list[Frame] = field(default_factory=list)  # the task, then what has come since, without a gap
    task_id: str = ""
    canceled: bool = False  # and told so
    cuts: int = 0

    @property
    def rests(self) -> bool:
        return bool(self.frames) and state_of(self.frames[-1]) in RESTING

    @property
    def at(self) -> str:
        return self.frames[-1].id

    def message(self) -> Json:
        return message(self.prompts[0], contextId=self.context_id, messageId=self.key)

    def cut(self) -> None:
        """What came behind the last id comes again."""
        self.cuts += 1
        while len(self.frames) > 1 and not self.frames[-1].id:
            self.frames.pop()


@dataclass
class Caller:
    gateways: Gateways
    rng: random.Random
    found: Found
    logs: dict[str, tuple[int, str]]  # context -> (events it has, their digest); shared by all callers
    contexts: list[str] = field(default_factory=list)

    async def work(self, until: anyio.Event) -> None:
        while not until.is_set():
            call = self.plan()
            with self.found.looking_at(f"{call.how} {call.prompts} task {call.task_id} context {call.context_id}"):
                with anyio.fail_after(2 * PATIENCE):
                    await self.play(call)

    def plan(self) -> Call:
        if len(self.contexts) > 3:
            self.contexts.pop(0)
        if not self.contexts or self.rng.random() < 0.4:
            self.contexts.append(str(uuid.UUID(int=self.rng.getrandbits(128), version=4)))
        prompt = f"{self.rng.choice(PROMPTS)} #{self.rng.getrandbits(48):x}"
        how = self.rng.choices(("follow", "hand in", "leave", "cancel"), (60, 20, 10, 10))[0]
        return Call([prompt], self.rng.choice(self.contexts), "cancel" if "HANG" in prompt else how)  # type: ignore[arg-type]

    # -- a call

    async def play(self, call: Call) -> None:
        match call.how:
            case "follow":
                await self.follow(call)
            case "cancel":
                await self.cancel(call)
            case "hand in":
                call.task_id = await self.hand_in(call)
            case "leave":
                call.task_id = await self.leave(call)
        self.found.counts["calls"] += 1
        self.found.counts["frames"] += len(call.frames)
        self.found.counts["cuts"] += call.cuts
        if not call.task_id:
            return
        if (await self.rest(call.task_id)) not in FINAL:
            await self.answer(call)
        await self.check(call)

    async def follow(self, call: Call, enough: int = 2**31) -> None:
        """Until its task rests, or so many frames have come."""
        while not call.rests and len(call.frames) < enough:
            try:
                async with aclosing(self.stream(await self.gateways.one(), call)) as frames:
                    async for frame in frames:
                        call.frames.append(frame)
                        self.gateways.hear()
                        call.task_id = call.task_id or frame.result["task"]["id"]
                        if len(call.frames) >= enough:
                            return
            except (httpx2.TransportError, RuntimeError):
                await anyio.sleep(0.01)
            if not call.rests:
                call.cut()

    def stream(self, client: Client, call: Call) -> AsyncGenerator[Frame, None]:
        """The stream of a call, from its beginning or from where it was cut."""
        same = {"Idempotency-Key": call.key}
        if not call.frames:
            return frames(client, "SendStreamingMessage", {"message": call.message()}, same)
        if call.at and self.rng.random() < 0.3:
            return frames(client, "SendStreamingMessage", {"message": call.message()}, same | {"Last-Event-ID": call.at})
        return frames(client, "SubscribeToTask", {"id": call.task_id}, {"Last-Event-ID": call.at or "0"})

    async def hand_in(self, call: Call) -> str:
        """Sent again under its key until it is answered."""
        params = {"message": call.message(), "configuration": {"returnImmediately": True}}
        answer = await self.gateways.ask(lambda client: client.rpc(AGENT, "SendMessage", params, {"Idempotency-Key": call.key}))
        return str(answer["result"]["task"]["id"])

    async def leave(self, call: Call) -> str:
        """Sent once; whoever was not answered does not know whether it came."""
        params = {"message": call.message(), "configuration": {"returnImmediately": True}}
        try:
            answer = await (await self.gateways.one()).rpc(AGENT, "SendMessage", params)
        except (httpx2.TransportError, RuntimeError):
            return await self.task_of(call)
        return str(answer["result"]["task"]["id"])

    async def task_of(self, call: Call) -> str:
        """Of a call that may have come: "" if it has not."""
        self.found.counts["unanswered"] += 1
        mine = messages(await self.events(call.context_id), call.prompts[0])
        return str(mine[0]["task_id"]) if mine else ""

    async def cancel(self, call: Call) -> None:
        await self.follow(call, 1)
        with anyio.move_on_after(self.rng.uniform(0.1, 3)):  # what hangs may never tell so much
            await self.follow(call, self.rng.randrange(1, 12))
        if call.rests:
            return
        answer = await self.gateways.ask(lambda client: client.rpc(AGENT, "CancelTask", {"id": call.task_id}))
        call.canceled = answer.get("result", {}).get("status", {}).get("state") == "TASK_STATE_CANCELED"
        while len(call.frames) > 1 and not call.frames[-1].id:
            call.frames.pop()

    async def answer(self, call: Call) -> None:
        """What its task asked; the answer ends it."""
        call.prompts.append(f"N=3 #{self.rng.getrandbits(48):x}")
        key = str(uuid.uuid4())
        said = message(call.prompts[1], contextId=call.context_id, taskId=call.task_id, messageId=key)
        ask = {"message": said, "configuration": {"returnImmediately": True}}
        answer = await self.gateways.ask(lambda client: client.rpc(AGENT, "SendMessage", ask, {"Idempotency-Key": key}))
        assert answer["result"]["task"]["id"] == call.task_id, answer
        assert await self.rest(call.task_id) in FINAL

    # -- what became of it

    async def rest(self, task_id: str) -> str:
        """The state a task has come to rest in."""
        with anyio.fail_after(PATIENCE):
            while True:
                task = (await self.gateways.ask(lambda client: client.rpc(AGENT, "GetTask", {"id": task_id})))["result"]
                if task["status"]["state"] in RESTING:
                    return str(task["status"]["state"])
                await self.told(task_id, "0", to_the_end=False)

    async def told(self, task_id: str, after: str, *, to_the_end: bool = True) -> list[Frame]:
        """A task's stream from an event on, through every cut, and unless told otherwise every question, to its end."""
        call = Call([], "", "follow", task_id=task_id)
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    params, at = {"id": task_id}, {"Last-Event-ID": call.frames[-1].id if call.frames else after}
                    async with aclosing(frames(await self.gateways.one(), "SubscribeToTask", params, at)) as more:
                        async for frame in more:
                            call.frames.append(frame)
                    if not to_the_end or (call.frames and state_of(call.frames[-1]) in FINAL) or not call.frames:
                        return call.frames
                except (httpx2.TransportError, RuntimeError):
                    call.cut()
                    if call.frames and not call.frames[-1].id:
                        call.frames.clear()
                    await anyio.sleep(0.01)

    async def events(self, context_id: str) -> list[Json]:
        """A session's whole log; [] if there is none."""
        events: list[Json] = []
        while True:
            after = f"{events[-1]['seq']}.{events[-1]['sub']}" if events else "0.0"
            page = await self.gateways.ask(lambda client, after=after: owner_events(client, context_id, after))  # type: ignore[misc]
            if not page:
                return events
            events += page

    async def check(self, call: Call) -> None:
        replay = await self.told(call.task_id, "0")
        state = state_of(replay[-1])
        assert state in FINAL, state
        assert not call.canceled or state == "TASK_STATE_CANCELED", "a task that was canceled ended otherwise"
        if call.frames:
            rest = await self.told(call.task_id, call.frames[0].id or "0")
            check_same(call.frames[1:], rest[: len(call.frames) - 1])
        events = await self.events(call.context_id)
        check_log(events)
        for prompt in call.prompts:
            assert len(messages(events, prompt)) == 1, f"{prompt} stands {len(messages(events, prompt))} times"
        check_turns([event for event in events if event["task_id"] == call.task_id], call.prompts, replay)
        length, digest = self.logs.get(call.context_id, (0, digest_of([])))
        assert digest_of(events[:length]) == digest, "an earlier log has changed"
        self.logs[call.context_id] = len(events), digest_of(events)
        self.found.counts["events"] += len(events) - length
        self.found.counts[state.removeprefix("TASK_STATE_").lower()] += 1
        self.found.counts["gone on"] += any(event["body"].get("attempt", 1) > 1 for event in events)


def check_same(shown: list[Frame], stored: list[Frame]) -> None:
    """What a client was shown, and what it is shown afterwards."""
    for number, (before, after) in enumerate(zip(shown, stored, strict=False)):
        assert before == after, f"frame {number} of {len(shown)} was {before}, and is {after}"
    assert len(shown) == len(stored), f"a client was shown what is not stored: {shown[len(stored) :]}"


async def check_all(caller: Caller) -> None:
    """Nothing is stuck, and no later crash has changed an earlier log."""
    with caller.found.looking_at("all tasks"), anyio.fail_after(PATIENCE):
        while stuck := await unfinished(caller.gateways):
            await caller.rest(stuck[0])
    for context_id, (length, digest) in caller.logs.items():
        with caller.found.looking_at(f"log of {context_id}"):
            events = await caller.events(context_id)
            check_log(events)
            assert digest_of(events[:length]) == digest, "an earlier log has changed"


async def unfinished(gateways: Gateways) -> list[str]:
    """Tasks that do not rest."""
    found: list[str] = []
    states: Counter[str] = Counter()
    token = ""
    while True:
        params = {"pageSize": 100, "pageToken": token}
        page = (await gateways.ask(lambda client, params=params: client.rpc(AGENT, "ListTasks", params)))["result"]  # type: ignore[misc]
        states.update(task["status"]["state"] for task in page["tasks"])
        found += [task["id"] for task in page["tasks"] if task["status"]["state"] not in RESTING]
        token = page.get("nextPageToken", "")
        if not token:
            return found


async def owner_events(client: Client, session_id: str, after: str) -> list[Json]:
    params = {"id": session_id, "after": after, "limit": 1000}
    body = {"jsonrpc": "2.0", "id": 1, "method": "sessions.events", "params": params}
    headers = {"Authorization": f"Bearer {client.owner_key}"}
    answer = (await client.http.post(f"{client.url}/owner", json=body, headers=headers)).json()
    if "error" in answer:
        assert answer["error"]["data"]["code"] == "not_found", answer
        return []
    found: list[Json] = answer["result"]["events"]
    return found


async def frames(client: Client, method: str, params: Json, headers: dict[str, str]) -> AsyncGenerator[Frame, None]:
    """A stream's frames; it is one, or the call fails."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    request = client.http.stream("POST", f"{client.url}/agents/{AGENT}", json=body, headers={**HEADERS, **headers})
    async with request as answer:
        if not answer.headers["content-type"].startswith("text/event-stream"):
            raise AssertionError(f"{method} {params} {headers}: {(await answer.aread()).decode()}")
        async for frame in framed(answer):
            yield frame


def messages(events: list[Json], prompt: str) -> list[Json]:
    """The events by which a prompt came in."""
    mine = [event for event in events if event["type"] == "message" and event["actor"] == "human"]
    return [event for event in mine if any(part.get("text") == prompt for part in event["body"]["parts"])]


def state_of(frame: Frame) -> str:
    held = frame.result.get("task") or frame.result.get("statusUpdate") or {}
    return str(held.get("status", {}).get("state", ""))


def digest_of(events: list[Json]) -> str:
    return hashlib.sha256(json.dumps(events, sort_keys=True).encode()).hexdigest()
