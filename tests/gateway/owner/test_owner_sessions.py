"""Sessions through the owners' endpoint, read from the log's tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from adapters import events as ev
from gateway.log import store
from gateway.log.models import Session, Task, Turn
from registry import repo
from tests.gateway.owner.owner_api import Api

AT = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z
SAID = "2026-09-21T14:13:20.000Z"


async def add_session(
    api: Api, id: str, agent: str, *, at: int = AT, status: str = "idle", text: str = "Write to Bo\nsoon"
) -> None:
    """A session as the engine leaves it: one task, one ended turn, a few events of every level."""
    found = await api.owner.database.read(lambda conn: repo.get(conn, agent))
    times = {"created_at": at, "updated_at": at}
    tail = id.removeprefix("ses_")
    turn: dict[str, Any] = {"id": f"trn_{tail}", "session_id": id, "task_id": f"tsk_{tail}", "ordinal": 1, "state": "ended"}
    turn |= {"attempt": 1, "fence": 1, "cancel_requested": False, "yield_reason": "completed"}
    turn |= {"queued_at": at, "started_at": at, "ended_at": None}
    who = {"agent_id": found.id, "principal": "caller"}

    def write(conn: Connection) -> None:
        pinned = {"agent_version": found.version, "status": status, "fence": 1, "native": {}}
        conn.execute(insert(Session), {"id": id, **who, **pinned, **times})
        conn.execute(
            insert(Task), {"id": f"tsk_{tail}", "session_id": id, "state": "completed", "snapshot_seq": 0, **who, **times}
        )
        conn.execute(insert(Turn), turn)
        said = [
            ev.Event("message", "user", {"message_id": "m", "parts": [{"text": text}], "metadata": {}}, "human"),
            ev.notice("stderr", "internal words"),
            ev.tool_start("call_1", "shell", {"command": "ls"}, "ls"),
            ev.chunk("Done."),
            ev.usage(input_tokens=10, output_tokens=2, cost_usd=0.01),
            ev.usage(input_tokens=5, output_tokens=1),
            ev.done("completed"),
        ]
        entries = store.entries(said, task_id=f"tsk_{tail}", turn_id=f"trn_{tail}")
        store.append(conn, id, [entry._replace(created_at=at) for entry in entries])

    await api.owner.database.write(write)


async def test_list_tells_of_sessions_newest_first(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    await add_session(api, "ses_b", "mailer", at=AT + 1_000_000, text="x" * 100)
    found = await api.call("sessions.list")
    assert [session["id"] for session in found["sessions"]] == ["ses_b", "ses_a"]
    assert found["sessions"][0]["title"] == "x" * 79 + "…"
    assert found["next"] is None
    assert found["sessions"][1] == {
        "id": "ses_a",
        "agent": "mailer",
        "version": 1,
        "status": "idle",
        "created_at": SAID,
        "updated_at": SAID,
        "turns": 1,
        "title": "Write to Bo",
    }


async def test_pages_join_without_a_gap_or_a_repeat(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    for number in range(7):
        await add_session(api, f"ses_{number}", "mailer", at=AT + number // 3)
    seen, cursor = [], None
    while True:
        page = await api.call("sessions.list", limit=2, cursor=cursor)
        seen += [session["id"] for session in page["sessions"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["ses_6", "ses_5", "ses_4", "ses_3", "ses_2", "ses_1", "ses_0"]


async def test_list_filters_by_agent_and_status(api: Api) -> None:
    for name in ("mailer", "other"):
        await api.call("agent.create", name=name, runtime="rehearsal")
        await add_session(api, f"ses_{name}", name, status="running" if name == "other" else "idle")
    await api.call("agent.delete", name="mailer")

    async def ids(**asked: Any) -> list[str]:
        return [session["id"] for session in (await api.call("sessions.list", **asked))["sessions"]]

    assert await ids(agent="mailer") == ["ses_mailer"]
    assert await ids(status="running") == ["ses_other"]
    assert await ids(agent="mailer", status="running") == []
    refused = await api.refusal("sessions.list", agent="othr")
    assert (refused.code, refused.hint) == ("not_found", "Did you mean 'other'?")


@pytest.mark.parametrize(
    "asked",
    [
        {"cursor": "x"},
        {"cursor": "!!!"},
        {"cursor": "ключ"},
        {"cursor": "MTIz" * 30},
        {"status": "asleep"},
        {"limit": 0},
        {"limit": "5"},
        {"limit": 501},
    ],
)
async def test_list_refuses_what_makes_no_sense(api: Api, asked: dict[str, Any]) -> None:
    assert (await api.refusal("sessions.list", **asked)).code == "invalid_params"


async def test_show_tells_everything_of_a_session(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    await api.call("agent.update", name="mailer", changes={"runtime": "alpha"})
    assert await api.call("sessions.show", id="ses_a") == {
        "id": "ses_a",
        "agent": "mailer",
        "agent_version": 1,
        "runtime": "rehearsal",
        "status": "idle",
        "principal": "caller",
        "created_at": SAID,
        "updated_at": SAID,
        "floor": 0,
        "workspace": str(api.directory / "data" / "sessions" / "ses_a" / "work"),
        "tasks": [{"id": "tsk_a", "state": "completed", "created_at": SAID, "updated_at": SAID}],
        "turns": [
            {
                "id": "trn_a",
                "task_id": "tsk_a",
                "state": "ended",
                "attempt": 1,
                "started_at": SAID,
                "ended_at": None,
                "yield_reason": "completed",
                "error": None,
            }
        ],
        "usage": {"input_tokens": 15, "output_tokens": 3, "cached_tokens": 0, "cost_usd": 0.01},
    }


async def test_events_come_in_order_with_every_level_and_a_place_to_go_on(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    found = await api.call("sessions.events", id="ses_a")
    places = [f"{event['seq']}.{event['sub']} {event['type']}" for event in found["events"]]
    assert places == ["1.0 message", "1.1 notice", "2.0 tool_start", "3.0 chunk", "3.1 usage", "3.2 usage", "4.0 done"]
    assert found["events"][3].pop("id").startswith("evt_")
    assert found["events"][3] == {
        "seq": 3,
        "sub": 0,
        "type": "chunk",
        "level": "user",
        "actor": "agent",
        "task_id": "tsk_a",
        "turn_id": "trn_a",
        "body": {"text": "Done."},
        "created_at": SAID,
    }
    assert found["next"] == "4.0"
    assert await api.call("sessions.events", id="ses_a", after="4.0") == {"events": [], "next": "4.0"}


async def test_events_are_read_page_by_page(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    seen, after = [], None
    while page := (await api.call("sessions.events", id="ses_a", limit=2, **({"after": after} if after else {}))):
        seen += [(event["seq"], event["sub"]) for event in page["events"]]
        after = page["next"]
        if not page["events"]:
            break
    assert seen == [(1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (3, 2), (4, 0)]


@pytest.mark.parametrize(
    ("level", "types"), [("user", ["message", "chunk", "done"]), ("progress", ["message", "tool_start", "chunk", "done"])]
)
async def test_events_can_be_asked_for_by_level(api: Api, level: str, types: list[str]) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    found = await api.call("sessions.events", id="ses_a", level=level)
    assert [event["type"] for event in found["events"]] == types


@pytest.mark.parametrize("after", ["x", "-1", "1.x", "9" * 30])
async def test_events_refuse_a_position_that_is_none(api: Api, after: str) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    assert (await api.refusal("sessions.events", id="ses_a", after=after)).code == "invalid_params"


async def test_cancel_answers_the_tasks_it_ended(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await add_session(api, "ses_a", "mailer")
    assert await api.call("sessions.cancel", id="ses_a") == {"id": "ses_a", "canceled": ["tsk_1"]}
    assert api.canceled == ["ses_a"]


async def test_a_session_there_is_not_is_not_found_by_any_method(api: Api) -> None:
    for method in ("sessions.show", "sessions.events", "sessions.cancel"):
        refused = await api.refusal(method, id="ses_x")
        assert (refused.code, json.dumps(refused.error).count("ses_x")) == ("not_found", 2)
    assert api.canceled == []
