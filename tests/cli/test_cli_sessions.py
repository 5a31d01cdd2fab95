"""`switchboard sessions`, a caller's side, at a real gateway: create, talk, follow, results. [CLI-2]"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from gateway.cli.main import main
from gateway.cli.session_api import Follow, SessionApi
from gateway.errors import SwitchboardError, Unavailable
from tests.cli.cli_fake import Shell, shell
from tests.cli.conftest import Ran
from tests.cli.test_cli_talk import Terminal
from tests.gateway.sessions.api import Api
from tests.gateway.turns.parrot import DONE, RUNTIMES, chunk, say
from tests.support import Client, Json, gateway_process, serving

ASK = [{"type": "ask", "question": "Which one?"}, {"type": "done", "yield_reason": "needs_input"}]
TOOL: list[Json] = [
    {"type": "tool_start", "call_id": "1", "tool": "shell", "input": {"command": "ls"}},
    {"type": "tool_result", "call_id": "1", "output": "", "is_error": True, "exit_code": 2},
]


@dataclass
class Stage:
    gateway: Client
    api: Api
    capture: Callable[[], Any]

    async def run(self, *args: str) -> Ran:
        """The command in this process, in a thread of its own."""
        self.capture()
        code = await anyio.to_thread.run_sync(main, args)
        return Ran(code, *self.capture())

    async def json(self, *args: str) -> Any:
        ran = await self.run(*args, "--json")
        assert (ran.code, ran.err) == (0, "")
        return json.loads(ran.out)


@asynccontextmanager
async def stage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], **settings: Any
) -> AsyncIterator[Stage]:
    async with serving(folder / "data", RUNTIMES, stop_seconds=0.1, **settings) as gateway:
        monkeypatch.setenv("SWITCHBOARD_URL", gateway.url)
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        with capture_logs():  # the gateway's, which runs in this process
            yield Stage(gateway, Api(gateway), capfd.readouterr)


async def test_a_session_is_created_answered_and_archived(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stage(home, monkeypatch, capfd) as s:
        ran = await s.run("sessions", "create", "parrot", say(chunk("Hm."), *ASK), "--metadata", "ticket=4711")
        id = ran.out.split()[1]
        assert ran == Ran(0, f"Session {id} of parrot has begun.\n", f"Next: switchboard sessions attach {id}\n")
        assert await s.run("sessions", "result", id, "--wait") == Ran(
            0, "Hm.\n", f'? Which one?\nAnswer with: switchboard sessions send {id} "…"\n'
        )
        shown = await s.json("sessions", "show", id)
        assert (shown["status"], shown["metadata"]) == ("awaiting_input", {"ticket": 4711})
        failing = say(
            chunk("No."), {"type": "done", "yield_reason": "failed", "error": {"category": "rate_limit", "text": "x"}}
        )
        sent = await s.json("sessions", "send", id, failing)
        assert sent["delivery"] == "queued"
        ran = await s.run("sessions", "result", id, "--wait")
        assert (ran.code, ran.out) == (3, "No.\n")
        assert ran.err.startswith("[failed] ")
        assert (await s.json("sessions", "list", "--agent", "parrot"))["sessions"][0]["id"] == id
        assert (await s.run("sessions", "archive", id)).out == f"Session {id} is archived.\n"
        ran = await s.run("sessions", "send", id, "more")
        assert ran == Ran(1, "", f"Error: Session '{id}' is archived: it can be read, not continued. Begin a new one.\n")
        ran = await s.run("sessions", "logs", id, "--json")
        assert [json.loads(line) for line in ran.out.splitlines()] == await s.api.log(id)
        ran = await s.run("sessions", "logs", id, "--types", "ask")
        assert [line.split()[2:] for line in ran.out.splitlines()] == [["ask", "Which", "one?"]]


async def test_a_file_says_it_all_and_options_add_to_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "notes.txt").write_text("one\n")
    (home / "dispatch.yaml").write_text(
        "agent: hello\ninput:\n- text: N=1\n- context: {path: notes.txt}\n- file: {path: notes.txt}\n"
        "metadata: {a: 1}\nlimits: {session_turns: 2}\n"
    )
    async with stage(home, monkeypatch, capfd) as s:
        more = (
            "--metadata",
            "b=x",
            "--limit",
            "tool_calls=5",
            "--mention",
            "b.py:3-9",
            "--mention",
            "c.py",
            "--context",
            "notes.txt",
        )
        made = await s.json("sessions", "create", "-f", "dispatch.yaml", *more)
        assert (made["agent"], made["metadata"], made["limits"]) == (
            "hello",
            {"a": 1, "b": "x"},
            {"session_turns": 2, "tool_calls": 5},
        )
        (message,) = await s.api.log(made["id"], types="message")
        parts = message["body"]["parts"]
        assert parts.pop(2)["filename"] == "notes.txt"
        assert [part["text"] for part in parts] == [
            "N=1",
            "From notes.txt:\n```\none\n```",
            "From notes.txt:\n```\none\n```",
            "See b.py, lines 3 to 9.",
            "See c.py.",
        ]
        await s.api.rest(made["id"])


WRONG: list[tuple[tuple[str, ...], int]] = [
    (("create",), 2),
    (("create", "-f", "missing.yaml"), 2),
    (("create", "hello", "x", "--context", "missing.md"), 2),
    (("create", "hello", "x", "--metadata", "novalue"), 2),
    (("create", "hello", "x", "--limit", "tool_calls=many"), 2),
    (("create", "hello", "x", "--limit", "tool_calls=nan"), 2),
    (("create", "nobody", "x"), 1),
    (("create", "hello", "x", "--limit", "bogus=1"), 2),
    (("send", "ses_none", "x"), 1),
    (("interrupt", "ses_none"), 1),
    (("attach", "ses_none"), 1),
    (("result", "a/b"), 1),
    (("logs", "ses_none", "--after", "5"), 1),
    (("archive", "ses_none", "--token", "wrong"), 4),
]


async def test_what_cannot_be_done_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stage(home, monkeypatch, capfd) as s:
        for args, code in WRONG:
            ran = await s.run("sessions", *args)
            assert (args, ran.code, ran.out) == (args, code, "")
            assert ran.err.startswith("Error: ")


async def test_with_a_token_a_caller_lists_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async with stage(home, monkeypatch, capfd) as s:
        monkeypatch.setenv("SWITCHBOARD_OWNER_KEY", s.gateway.owner_key)
        key = (await s.gateway.owner("callers.add", name="me"))["key"]
        theirs = (await s.api.finished("N=1"))["id"]
        mine = (await s.json("sessions", "create", "hello", "N=1", "--token", key))["id"]
        assert [one["id"] for one in (await s.json("sessions", "list", "--token", key))["sessions"]] == [mine]
        assert {one["id"] for one in (await s.json("sessions", "list"))["sessions"]} == {mine, theirs}
        assert "METADATA" in (await s.run("sessions", "list", "--token", key)).out
        assert (await s.run("sessions", "show", theirs, "--token", key)).code == 1
        assert (await s.json("sessions", "cancel", mine, "--token", key))["session_id"] == mine


def at(gateway: Client, home: Path) -> Shell:
    return shell(home, SWITCHBOARD_URL=gateway.url)


async def test_attach_without_a_terminal_sends_its_input_and_ends_when_the_session_rests(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", RUNTIMES) as gateway:
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        api = Api(gateway)
        session = await api.finished(say(chunk("First."), *TOOL, *ASK), agent="parrot")
        run = at(gateway, tmp_path).run

        async def attach(*args: str, input: str = "") -> tuple[int, str, str]:
            done = await anyio.to_thread.run_sync(lambda: run("sessions", "attach", session["id"], *args, input=input))
            return done.returncode, done.stdout, done.stderr

        code, out, err = await attach()
        assert (code, out) == (0, "First.\n")
        assert err.splitlines()[1:] == ["> ls", "  ls: failed (exit 2)", "? Which one?"]
        code, out, err = await attach("--no-replay", input=say(chunk("Second."), DONE))
        assert (code, out) == (0, "Second.\n")
        code, out, _ = await attach("--json")
        assert [json.loads(line) for line in out.splitlines()] == await api.log(session["id"])


def test_whether_a_session_rests_is_asked_until_the_gateway_answers() -> None:
    answers: list[Any] = [{"status": "idle"}, Unavailable("Away.", "Wait."), Unavailable("Away.", "Wait.")]

    class Api(SessionApi):
        def __init__(self) -> None: ...

        def get(self, *place: str, **params: Any) -> Any:
            answer = answers.pop()
            if isinstance(answer, Unavailable):
                raise answer
            return answer

    assert Follow(Api(), "ses_1", pauses=(0, 0)).look() == {"status": "idle"}


class Away:
    """A gateway that restarts: what it answers, a request at a time; `None` is a connection that is cut."""

    def __init__(self, *answers: tuple[int, Json] | None) -> None:
        self.answers, self.asked, away = list(answers), list[Json](), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                away.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                found = away.answers.pop(0)
                if found is not None:
                    self.send_response(found[0])
                    self.end_headers()
                    self.wfile.write(json.dumps(found[1]).encode())

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.said: list[str] = []

    def __enter__(self) -> SessionApi:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return SessionApi(f"http://127.0.0.1:{self.server.server_port}", None, self.said.append, pauses=(0, 0, 0))

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


REFUSED = (503, {"code": "unavailable", "message": "Not now.", "hint": ""})


def test_a_message_is_sent_until_a_gateway_that_restarts_answers_and_under_one_key(home: Path) -> None:
    """[CLI-3]"""
    unknown = (503, {"code": "outcome_unknown", "message": "Nobody knows.", "hint": ""})
    away = Away(None, REFUSED, unknown, (202, {"seq": 7}))
    with away as api:
        assert api.send("ses_1", "Go on", "auto") == {"seq": 7}
    assert away.asked == [{"input": "Go on", "mode": "auto", "idempotency_key": away.asked[0]["idempotency_key"]}] * 4
    assert len(away.said) == 1  # not a word for each try
    away = Away(None, (201, {"id": "ses_1"}))
    with away as api:
        assert api.create({"agent": "hello", "input": "Begin"}) == {"id": "ses_1"}
    assert away.asked == [{"agent": "hello", "input": "Begin", "idempotency_key": away.asked[0]["idempotency_key"]}] * 2


def test_of_a_message_nobody_answers_it_is_said_how_to_send_it_once(home: Path) -> None:
    """[CLI-3]"""
    away = Away(*[REFUSED] * 4)
    with away as api, pytest.raises(Unavailable) as caught:
        api.send("ses_1", "Go on", "auto")
    assert f"--idempotency-key {away.asked[0]['idempotency_key']}" in caught.value.hint
    refused = Away((409, {"code": "nothing_running", "message": "No.", "hint": ""}))
    with refused as api, pytest.raises(SwitchboardError, match="No"):
        api.send("ses_1", "Go on", "steer")
    assert len(refused.asked) == 1


async def test_who_follows_a_session_is_told_that_the_token_has_expired(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """[TOK-4] Where it looked as if the session had ended."""
    async with stage(home, monkeypatch, capfd) as s:
        session = await s.api.create(say(chunk("one"), ["sleep"]), "parrot")
        token = await s.api.post(f"/{session['id']}/tokens", {"seconds": 1})
        follow = Follow(SessionApi(s.gateway.url, token["token"]), session["id"])
        with anyio.fail_after(20), pytest.raises(SwitchboardError, match="token has expired") as caught:
            await anyio.to_thread.run_sync(list, follow, abandon_on_cancel=True)
        assert caught.value.codes.exit == 4


async def test_attach_says_where_the_words_begin_again_after_a_crash(tmp_path: Path) -> None:
    """[RESUME-4]"""
    async with serving(tmp_path / "data", RUNTIMES, turn_backoff_seconds=0.01) as gateway:
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        dies = say(["once", [chunk("one "), ["exit", 3]]], chunk("two"), DONE)
        session = await Api(gateway).finished(dies, agent="parrot")
        run = at(gateway, tmp_path).run
        done = await anyio.to_thread.run_sync(lambda: run("sessions", "attach", session["id"], input=""))
    assert (done.returncode, done.stdout) == (0, "one \ntwo\n")
    told = ["The work was interrupted and goes on.", "The answer begins again, in the place of what was said:"]
    assert done.stderr.splitlines()[1:] == told


async def test_attach_in_a_terminal_steers_interrupts_and_detaches(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", RUNTIMES, stop_seconds=0.1) as gateway:
        await gateway.owner("agent.create", name="parrot", runtime="parrot")
        api = Api(gateway)
        session = await api.create(say(chunk("one "), ["take"], chunk(" three"), ["sleep"]), agent="parrot")

        def use() -> tuple[int, str]:
            terminal = Terminal(at(gateway, tmp_path), "sessions", "attach", session["id"])
            terminal.until("one ")
            terminal.type("/nonsense\n/steer two\n")
            terminal.until("two three")
            terminal.interrupt()
            terminal.until("Press Ctrl-C again to detach.")
            terminal.until("[canceled]")
            terminal.type(say(chunk("fo"), chunk("ur"), DONE) + "\n")
            terminal.until("four")
            anyio.from_thread.run(api.rest, session["id"])
            terminal.interrupt()
            terminal.until("Nothing runs")
            terminal.until("Press Ctrl-C again to detach.")
            terminal.interrupt()
            rest = terminal.until("--after ")
            return terminal.wait(), rest

        code, rest = await anyio.to_thread.run_sync(use)
        assert (code, "Detached" in rest) == (130, True)
        result = await api.rest(session["id"])
        assert (result["text"], result["turn"]["yield_reason"]) == ("four", "completed")


def test_attach_survives_a_gateway_that_is_killed_and_tells_nothing_twice(tmp_path: Path) -> None:
    with gateway_process(tmp_path / "data") as gateway:

        async def create() -> str:
            client = gateway.client()
            session = await Api(client).create("N=300 D=2000")
            await client.http.aclose()
            return str(session["id"])

        id = anyio.run(create)
        command = at(gateway.client(), tmp_path)
        attached = command.start("sessions", "attach", id, "--json", stdin=subprocess.DEVNULL)
        assert attached.stdout is not None
        lines = [attached.stdout.readline() for _ in range(5)]
        gateway.kill()
        gateway.start()
        lines += attached.stdout.readlines()
        _, err = attached.communicate(timeout=60)

        async def log() -> list[Json]:
            client = gateway.client()
            found = await Api(client).log(id)
            await client.http.aclose()
            return found

        assert [json.loads(line) for line in lines] == anyio.run(log)
        assert (attached.returncode, err) == (0, "")
        assert json.loads(lines[-1])["type"] == "done"


async def test_ctrl_c_while_logs_follow_leaves(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as gateway:
        session = await Api(gateway).finished("N=1")

        def follow() -> int:
            following = at(gateway, tmp_path).start("sessions", "logs", session["id"], "--follow")
            assert following.stdout is not None
            following.stdout.readline()
            following.send_signal(signal.SIGINT)
            following.communicate(timeout=30)
            return following.returncode

        assert await anyio.to_thread.run_sync(follow) == 130
