"""specs/session-api.openapi.json says what is so: it is made from the code, and every answer it tells of is given. [SES-8]"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import httpx2
import jsonschema

from adapters.events import SHOWN
from gateway.log.snapshot import SNAPSHOT
from gateway.sessions.openapi import document, statuses
from gateway.sessions.routes import OPERATIONS, Operation
from gateway.sessions.shapes import Type
from tests.gateway.sessions.api import Api
from tests.support import serving

ROOT = Path(__file__).parents[3]
DOCUMENT = json.loads((ROOT / "specs/session-api.openapi.json").read_text("utf-8"))
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
HOOK = {"url": "http://127.0.0.1:9/x", "types": ["ask"]}
NOBODY = "ses_" + "0" * 24


def test_the_document_is_the_current_one() -> None:
    assert document() == DOCUMENT, "run: python -m gateway.sessions.openapi > specs/session-api.openapi.json"


def test_types_of_events_are_those_callers_are_shown() -> None:
    assert set(get_args(Type)) == {*SHOWN, SNAPSHOT}


def test_every_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(DOCUMENT)
    named = {piece.partition('"')[0] for piece in text.split("#/components/schemas/")[1:]}
    assert named == set(schemas)
    operations = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert sorted(operations) == sorted({op.name for op in OPERATIONS})


@dataclass
class Stage:
    """One session in each state that answers differently, and what was answered."""

    api: Api
    idle: str
    archived: str
    busy: str
    hook: str
    full: str
    read_token: str
    write_token: str
    limited: dict[str, str]
    limited_session: str
    seen: dict[str, set[int]] = field(default_factory=dict)

    async def ask(self, op: Operation, id: str = "", body: Any = None, **more: Any) -> int:
        path = op.path.removeprefix("/sessions").replace("{id}", id or self.idle)
        path = path.replace("{destination}", more.pop("hook", self.hook))
        answer = await self.api.ask(op.method, path, valid(op) if body is None else body, **more)
        check(op, answer)
        self.seen.setdefault(op.name, set()).add(answer.status_code)
        return answer.status_code


def valid(op: Operation) -> Any:
    bodies = {
        "createSession": {"agent": "hello", "input": "N=1", "destinations": [{**HOOK, "secrets": [SECRET]}]},
        "sendMessage": {"input": [{"mention": {"path": "a.py", "start_line": 1}}]},
        "createToken": {},
        "addDestination": HOOK,
        "setSecrets": {"secrets": [SECRET]},
    }
    return bodies.get(op.name)


def check(op: Operation, answer: httpx2.Response) -> None:
    """The answer is one the document tells of, and has the form it tells."""
    told = DOCUMENT["paths"][op.path][op.method.lower()]["responses"][str(answer.status_code)]
    if "content" not in told:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = told["content"][media_type]["schema"]
    validator = jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]})
    validator.validate(answer.json() if media_type == "application/json" else answer.text)
    assert set(told.get("headers", {})) <= {name.title() for name in answer.headers}
    assert answer.headers["cache-control"] == "no-store"


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path, allow_private_hosts="127.0.0.1", max_body_bytes=4096, stop_seconds=0.1) as gateway:
        api = Api(gateway)
        key = (await gateway.owner("callers.add", name="limited", requests_per_minute=1))["key"]
        limited = {"X-API-Key": key}
        limited_session = (await api.post("", {"agent": "hello", "input": "N=1"}, headers=limited))["id"]
        idle, archived = [(await api.finished("N=1"))["id"] for _ in range(2)]
        await api.post(f"/{archived}/archive")
        busy, full = (await api.create("HANG"))["id"], (await api.finished("N=1", destinations=[HOOK] * 10))["id"]
        tokens = [(await api.post(f"/{idle}/tokens", {"scopes": [scope]}))["token"] for scope in ("read", "write")]
        hook = (await api.post(f"/{idle}/destinations", HOOK))["id"]
        yield Stage(api, idle, archived, busy, hook, full, *tokens, limited, limited_session)
        await api.post(f"/{busy}/cancel")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def refuse(stage: Stage, op: Operation) -> None:
    """What every operation refuses alike."""
    assert await stage.ask(op, params={"bogus": "1"}) == 400
    assert await stage.ask(op, headers={"X-API-Key": "wrong"}) == 401
    token = stage.write_token if op.scope == "read" else stage.read_token
    assert await stage.ask(op, body={"scopes": ["write"]} if op.scope == "any" else None, headers=bearer(token)) == 403
    if op.of_one:
        assert await stage.ask(op, NOBODY) == 404
        assert await stage.ask(op, stage.idle, headers=stage.limited) == 404
    assert await stage.ask(op, stage.limited_session, headers=stage.limited) == 429
    if op.body is not None:
        assert await stage.ask(op, body={"x": "x" * 5000}) == 413
        assert await stage.ask(op, body={"unknown": 1}) == 400
        assert await stage.ask(op, headers={"Content-Type": "text/plain"}) == 415


async def refuse_each(stage: Stage) -> None:
    """What is refused by one operation or another."""
    ops = {op.name: op for op in OPERATIONS}
    assert await stage.ask(ops["createSession"], body={"agent": "nobody", "input": "x"}) == 404
    assert await stage.ask(ops["sendMessage"], stage.archived) == 409
    assert await stage.ask(ops["interruptSession"], stage.idle) == 409
    assert await stage.ask(ops["archiveSession"], stage.busy) == 409
    assert await stage.ask(ops["addDestination"], stage.full) == 409
    assert await stage.ask(ops["removeDestination"], hook="dst_none") == 404
    for name, other in (("createSession", {"agent": "hello", "input": "a"}), ("sendMessage", {"input": "a"})):
        once = {"Idempotency-Key": "once"}
        await stage.ask(ops[name], headers=once)
        assert await stage.ask(ops[name], body=other, headers=once) == 422
    again = {"Accept": "text/event-stream", "Last-Event-ID": str((await stage.api.get(f"/{stage.archived}"))["seq"])}
    assert await stage.ask(ops["readEvents"], stage.archived, headers=again) == 204


async def test_every_operation_gives_every_answer_it_documents_and_no_other(tmp_path: Path) -> None:
    async with stage(tmp_path) as stage_:
        for op in OPERATIONS:
            await refuse(stage_, op)
        await refuse_each(stage_)
        for media_type in ("text/event-stream", "application/x-ndjson"):
            events = next(op for op in OPERATIONS if op.name == "readEvents")
            assert await stage_.ask(events, stage_.archived, headers={"Accept": media_type}) == 200
        for op in OPERATIONS:
            id = {"interruptSession": stage_.busy}.get(op.name, stage_.idle)
            if op.name == "archiveSession":
                await stage_.api.rest(id)
            assert await stage_.ask(op, id) == op.status
        with closing(sqlite3.connect(tmp_path / "switchboard.db")) as connection:
            connection.execute("ALTER TABLE session RENAME TO lost")
            for op in OPERATIONS:
                assert await stage_.ask(op) == 503
            connection.execute("ALTER TABLE lost RENAME TO session")
        assert {op.name: stage_.seen[op.name] for op in OPERATIONS} == {op.name: set(statuses(op)) for op in OPERATIONS}
