"""Owners' commands: what they send, what they print, how they exit."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_fake import Fake, Shell
from tests.cli.conftest import Run

MADE = {"name": "mailer", "version": 1, "url": "http://gw/agents/mailer", "runtime": "claude", "warnings": ["No key."]}
SESSION = {"id": "ses_1", "agent": "mailer", "version": 2, "status": "idle", "turns": 1, "title": "Hi\x1b[2J\nthere"}
EVENTS = [
    {"seq": 1, "sub": 0, "type": "message", "created_at": "2026-01-02T03:04:05.678Z", "body": {"parts": [{"text": "Hi"}]}},
    {"seq": 1, "sub": 1, "type": "usage", "created_at": "2026-01-02T03:04:05Z", "body": {"input_tokens": 2}},
    {"seq": 2, "sub": 0, "type": "done", "created_at": "2026-01-02T03:04:06Z", "body": {"yield_reason": "completed"}},
]
CALLERS = [
    {"name": "shop", "agents": ["a", "b"], "requests_per_minute": 60, "running_tasks": None, "key_id": "1"}
    | {"created_at": "2026-01-02T03:04:05.678Z", "rotated_at": None, "principal": "caller:cal_1"},
    {"name": "till", "agents": None, "key_id": "2", "rotated_at": "2026-01-03T03:04:05.678Z", "principal": "caller:cal_2"},
]
KEY = {"kid": "Zk3", "signs": True, "created_at": "2026-01-02T03:04:05.678Z", "retired_at": None, "published_until": None}
CHECKS = [
    {"name": "disk", "ok": True, "result": "76 GiB free", "fix": ""},
    {"name": "runtime codex", "ok": False, "result": "not found", "fix": "npm install codex", "required": False},
]
KIT = [
    {"name": "read", "ok": True, "result": "it read", "fix": "", "required": True, "verdict": "passed", "says": "It reads."},
    {"name": "ask", "ok": True, "result": "no tool", "fix": "", "required": True, "verdict": "not shown", "says": "It asks."},
]
VERSION: dict[str, Any] = {
    "version": 2,
    "current": True,
    "state": "active",
    "image": "mine:1",
    "digest": "mine@sha256:0123456789abcdef",
    "providers": ["openai"],
    "capabilities": [],
    "env_names": [],
    "created_at": "2026-01-02T03:04:05.678Z",
}

QUICK = (
    "agent quick mailer --runtime claude --model a/b --prompt p --mode print --description d --env A=1 --env B=x=y --private"
    " --limit tool_calls=20 --limit turn_cost_usd=0.5"
)
UPDATE = (
    "agent update a --runtime-type codex --model a/b"
    " --env A=1 --unset env.B --unset prompt --unset limits.max_turns --if-version 3"
)
# command line -> (method, params, result)
CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    QUICK: (
        "agent.create",
        {"name": "mailer", "runtime": "claude", "quick": True, "model": "a/b", "prompt": "p", "mode": "print"}
        | {
            "description": "d",
            "env": {"A": "1", "B": "x=y"},
            "public": False,
            "limits": {"tool_calls": 20, "turn_cost_usd": 0.5},
        },
        MADE,
    ),
    "agent quick mailer --runtime codex --tag mail --tag office --icon-url http://x/i.png --documentation-url http://x/": (
        "agent.create",
        {"name": "mailer", "runtime": "codex", "quick": True, "tags": ["mail", "office"]}
        | {"icon_url": "http://x/i.png", "documentation_url": "http://x/"},
        MADE,
    ),
    "keys list": ("keys.list", {}, {"keys": [KEY]}),
    "keys rotate": ("keys.rotate", {}, {"keys": [KEY]}),
    "agent quick mailer --runtime-type acp --command 'my agent --acp'": (
        "agent.create",
        {"name": "mailer", "runtime": "acp", "quick": True, "command": ["my", "agent", "--acp"]},
        MADE,
    ),
    "agent list": ("agent.list", {}, {"agents": [{"name": "a", "runtime": "claude", "model": None, "version": 1}]}),
    "agent show a": (
        "agent.show",
        {"name": "a"},
        {"name": "a", "version": 3, "values": {"mode": {"value": "x", "source": "default"}}},
    ),
    UPDATE: (
        "agent.update",
        {"name": "a", "if_version": 3}
        | {
            "changes": {
                "runtime": "codex",
                "model": "a/b",
                "env": {"A": "1", "B": None},
                "prompt": None,
                "limits": {"max_turns": None},
            }
        },
        {"name": "a", "version": 4, "changed": {"runtime": {"old": "claude", "new": "codex"}}, "warnings": ["1 session."]},
    ),
    "agent quick mailer --runtime codex --placement sandboxed --egress none": (
        "agent.create",
        {"name": "mailer", "runtime": "codex", "quick": True, "placement": "sandboxed", "egress": "none"},
        MADE,
    ),
    "agent update a --egress 'a.example, *.b.example:8443' --egress-mode audit": (
        "agent.update",
        {"name": "a", "changes": {"egress": ["a.example", "*.b.example:8443"], "egress_mode": "audit"}},
        {"name": "a", "version": 4, "changed": {}, "warnings": []},
    ),
    "agent delete a --yes": ("agent.delete", {"name": "a"}, {"name": "a", "deleted": True}),
    "agent versions a": (
        "agent.versions",
        {"name": "a"},
        {
            "name": "a",
            "versions": [{"version": 1, "created_at": "2026-01-02T03:04:05.6Z", "changed": ["runtime"], "runtime": "acp"}],
        },
    ),
    "agent card a": ("agent.card", {"name": "a"}, {"name": "a", "description": "Größe"}),
    "sessions list --agent a --status idle --limit 5 --cursor c": (
        "sessions.list",
        {"agent": "a", "status": "idle", "limit": 5, "cursor": "c"},
        {"sessions": [SESSION], "next": "c2"},
    ),
    "callers add shop --agent a --agent b --per-minute 60 --running 4": (
        "callers.add",
        {"name": "shop", "agents": ["a", "b"], "requests_per_minute": 60, "running_tasks": 4},
        {"name": "shop", "key": "sbk_1_x"},
    ),
    "callers add shop": ("callers.add", {"name": "shop"}, {"name": "shop", "key": "sbk_1_x"}),
    "callers list": ("callers.list", {}, {"callers": CALLERS}),
    "callers rotate shop": ("callers.rotate", {"name": "shop"}, {"name": "shop", "key": "sbk_2_y"}),
    "callers revoke shop --yes": ("callers.revoke", {"name": "shop"}, {"name": "shop", "revoked": True}),
    "sessions show ses_1": (
        "sessions.show",
        {"id": "ses_1"},
        {"id": "ses_1", "status": "idle", "created_at": "2026-01-02T03:04:05.6Z", "tasks": [{"id": "tsk_1", "state": "failed"}]}
        | {
            "turns": [
                {
                    "id": "trn_1",
                    "task_id": "tsk_1",
                    "state": "ended",
                    "attempt": 2,
                    "yield_reason": "failed",
                    "error": {"message": "No."},
                }
            ]
        },
    ),
    "sessions cancel ses_1": ("sessions.cancel", {"id": "ses_1"}, {"id": "ses_1", "canceled": ["tsk_1"]}),
    "webhooks list --limit 5": (
        "webhooks.list",
        {"limit": 5},
        {
            "webhooks": [
                {
                    "id": "cfg_1",
                    "agent": "a",
                    "task_id": "tsk_1",
                    "url": "https://x.test/",
                    "deliveries": {"dead": 1, "delivered": 2},
                }
            ],
            "next": "7.cfg_1",
        },
    ),
    "webhooks deliveries --state dead --cursor 9": (
        "webhooks.deliveries",
        {"state": "dead", "limit": 50, "cursor": "9"},
        {
            "deliveries": [
                {"id": "dlv_1", "state": "dead", "attempts": 12, "agent": "a", "task_id": "tsk_1", "url": "https://x.test/"}
                | {"error": "The receiver answered 500."}
            ],
            "next": "3",
        },
    ),
    "webhooks test dst_1": (
        "webhooks.test",
        {"id": "dst_1"},
        {"id": "dst_1", "url": "https://x.test/", "delivery": "dlv_1", "ok": True, "reason": None, "ms": 7},
    ),
    "webhooks redeliver dlv_1": ("webhooks.redeliver", {"id": "dlv_1"}, {"id": "dlv_1", "state": "pending"}),
    "runtimes list": (
        "runtimes.list",
        {},
        {
            "runtimes": [
                {"name": "codex", "title": "Codex", "providers": ["openai"], "modes": [{"name": "a"}, {"name": "b"}]}
                | {"default_mode": "a", "default_model": None, "installed": False}
            ]
        },
    ),
    "runtimes check codex": ("runtimes.check", {"name": "codex"}, {"name": "codex", "ok": True, "checks": CHECKS}),
    "runtimes check mine:1 --providers openai,anthropic --capabilities steer": (
        "runtimes.check",
        {"name": "mine:1", "providers": ["openai", "anthropic"], "capabilities": ["steer"]},
        {"name": "mine:1", "image": "mine:1", "digest": "sha256:1", "ok": True, "checks": KIT},
    ),
    "runtimes push mine:1 --name mine --providers openai --env A --env B --unchecked": (
        "runtimes.push",
        {"name": "mine", "image": "mine:1", "providers": ["openai"], "env_names": ["A", "B"], "unchecked": True},
        {"name": "mine", "pushed": True, "checks": [], "warnings": ["NOT CHECKED."], **VERSION},
    ),
    "runtimes versions mine": (
        "runtimes.versions",
        {"name": "mine"},
        {"name": "mine", "versions": [VERSION, {**VERSION, "version": 1, "current": False, "state": "deprecated"}]},
    ),
    "runtimes rollback mine": ("runtimes.rollback", {"name": "mine"}, {"name": "mine", **VERSION}),
    "runtimes rollback mine 2": ("runtimes.rollback", {"name": "mine", "version": 2}, {"name": "mine", **VERSION}),
    "runtimes deprecate mine 2": ("runtimes.deprecate", {"name": "mine", "version": 2}, {"name": "mine", **VERSION}),
}
PRINTED = {
    QUICK: (
        "Agent 'mailer' was created (version 1, runtime claude).\n  http://gw/agents/mailer\n",
        'Warning: No key.\nNext: switchboard call mailer "Hello"\n',
    ),
    "agent list": (
        "NAME  RUNTIME  MODEL  VERSION  UPDATED  URL  DESCRIPTION\na     claude   -      1        -        -    -\n",
        "",
    ),
    "agent show a": (
        "FIELD    VALUE  WHERE IT CAME FROM\nname     a      -\nversion  3      -\nmode     x      default\n",
        "",
    ),
    UPDATE: (
        "Agent 'a' is at version 4.\n  runtime: claude → codex\n",
        'Warning: 1 session.\nNext: switchboard call a "…"\n',
    ),
    "agent delete a --yes": ("Agent 'a' was deleted.\n", "Next: switchboard agent list\n"),
    "agent versions a": (
        "VERSION  CREATED               RUNTIME  MODEL  CHANGED\n1        2026-01-02T03:04:05Z  acp      -      runtime\n",
        "",
    ),
    "sessions list --agent a --status idle --limit 5 --cursor c": (
        "ID     AGENT   VERSION  STATUS  TURNS  UPDATED  TITLE\nses_1  mailer  2        idle    1      -        Hi[2J there\n",
        "More: switchboard sessions list --cursor c2\n",
    ),
    "webhooks list --limit 5": (
        "ID     AGENT  TASK OR SESSION  CREATED  DELIVERIES           URL\n"
        "cfg_1  a      tsk_1            -        1 dead, 2 delivered  https://x.test/\n",
        "More: switchboard webhooks list --cursor 7.cfg_1\n",
    ),
    "webhooks deliveries --state dead --cursor 9": (
        "ID     STATE  TRIES  AGENT  TASK OR SESSION  CREATED  URL              ERROR\n"
        "dlv_1  dead   12     a      tsk_1            -        https://x.test/  The receiver answered 500.\n",
        "More: switchboard webhooks deliveries --state dead --cursor 3\n",
    ),
    "webhooks test dst_1": ("https://x.test/ answered in 7 ms.\n", ""),
    "webhooks redeliver dlv_1": ("Delivery dlv_1 is sent again.\n", "Next: switchboard webhooks deliveries\n"),
    "callers add shop": (
        "sbk_1_x\n",
        "Caller 'shop' was added. This is its key; it is not shown again:\n"
        'Next: SWITCHBOARD_TOKEN=… switchboard call NAME "Hello"\n',
    ),
    "callers rotate shop": (
        "sbk_2_y\n",
        "Caller 'shop' has a new key; the old one is void. This is its key; it is not shown again:\n"
        'Next: SWITCHBOARD_TOKEN=… switchboard call NAME "Hello"\n',
    ),
    "callers list": (
        "NAME  AGENTS  PER MINUTE  RUNNING  KEY  KEY MADE              PRINCIPAL\n"
        "shop  a, b    60          -        1    2026-01-02T03:04:05Z  caller:cal_1\n"
        "till  all     -           -        2    2026-01-03T03:04:05Z  caller:cal_2\n",
        "",
    ),
    "callers revoke shop --yes": ("Caller 'shop' was revoked.\n", "Next: switchboard callers list\n"),
    "sessions show ses_1": (
        "FIELD       VALUE\nid          ses_1\nstatus      idle\ncreated_at  2026-01-02T03:04:05Z\n\n"
        "TASK   STATE   CREATED  UPDATED\ntsk_1  failed  -        -\n\n"
        "TURN   TASK   STATE  ATTEMPT  STARTED  ENDED  HOW IT ENDED\n"
        "trn_1  tsk_1  ended  2        -        -      failed: No.\n",
        "",
    ),
    "sessions cancel ses_1": ("Canceled: tsk_1\n", "Next: switchboard sessions show ses_1\n"),
    "runtimes list": (
        "NAME   TITLE  INSTALLED  DEFAULT MODEL  MODES  PROVIDERS\ncodex  Codex  no         -              a*, b  openai\n",
        "",
    ),
    "runtimes check codex": (
        "      CHECK          RESULT       FIX\nok    disk           76 GiB free  -\n"
        "note  runtime codex  not found    npm install codex\n",
        "",
    ),
    "runtimes check mine:1 --providers openai,anthropic --capabilities steer": (
        "    CHECK  RESULT   FIX\nok  read   it read  -\n-   ask    no tool  -\n",
        "",
    ),
    "runtimes push mine:1 --name mine --providers openai --env A --env B --unchecked": (
        "Runtime 'mine' is at version 2 now: mine:1, mine@0123456789ab.\n",
        "Warning: NOT CHECKED.\nNext: switchboard agent quick NAME --runtime mine\nNext: switchboard runtimes versions mine\n",
    ),
    "runtimes versions mine": (
        "VERSION  STATE       IMAGE   DIGEST             PROVIDERS  CAPABILITIES  PUSHED\n"
        "2        current     mine:1  mine@0123456789ab  openai     -             2026-01-02T03:04:05Z\n"
        "1        deprecated  mine:1  mine@0123456789ab  openai     -             2026-01-02T03:04:05Z\n",
        "",
    ),
    "runtimes rollback mine": (
        "New sessions of runtime 'mine' get version 2 now: mine:1.\n",
        "Next: switchboard runtimes versions mine\n",
    ),
    "runtimes deprecate mine 2": (
        "Version 2 of runtime 'mine' is deprecated.\n",
        "Next: switchboard runtimes versions mine\n",
    ),
}


@pytest.mark.parametrize("line", CALLS)
def test_json_prints_what_the_api_returns(line: str, run: Run, gateway: Fake) -> None:
    method, params, result = CALLS[line]
    gateway.owner[method] = result
    ran = run(*shlex.split(line), "--json")
    assert (ran.code, json.loads(ran.out), ran.err) == (0, result, "")
    assert [(asked["method"], asked["params"]) for asked in gateway.asked] == [(method, params)]


@pytest.mark.parametrize("line", PRINTED)
def test_people_get_tables_and_the_next_command(line: str, run: Run, gateway: Fake) -> None:
    method, _, result = CALLS[line]
    gateway.owner[method] = result
    ran = run(*shlex.split(line))
    assert (ran.code, ran.out, ran.err) == (0, *PRINTED[line])


def test_a_real_process_answers_the_same(switchboard: Shell, gateway: Fake) -> None:
    gateway.owner["agent.card"] = {"name": "größer"}
    done = switchboard.run("agent", "card", "größer")
    assert (done.returncode, done.stdout, done.stderr) == (0, '{\n  "name": "größer"\n}\n', "")
    assert gateway.asked[0]["params"] == {"name": "größer"}


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_create_takes_yaml_from_a_file_or_from_stdin(source: str, switchboard: Shell, gateway: Fake) -> None:
    gateway.owner["agent.create"] = MADE
    text = "name: mailer\nruntime: claude\nprompt: |\n  Grüße\n  Bye\nskills:\n- {id: a}\n"
    (switchboard.home / "mailer.yaml").write_text(text, "utf-8")
    done = switchboard.run("agent", "create", "-f", "mailer.yaml" if source == "file" else "-", input=text)
    assert done.returncode == 0
    expected = {"name": "mailer", "runtime": "claude", "prompt": "Grüße\nBye\n", "skills": [{"id": "a"}]}
    assert gateway.asked[0]["params"] == expected


@pytest.mark.parametrize("text", ["[a, b]", "a: [", "", "since: 2026-01-02", "a: .nan", "\x00"])
def test_a_file_that_is_no_agent_is_a_usage_error(text: str, run: Run, home: Path, gateway: Fake) -> None:
    (home / "agent.yaml").write_text(text)
    ran = run("agent", "create", "-f", "agent.yaml")
    assert (ran.code, ran.out, gateway.asked) == (2, "", [])
    assert "'agent.yaml'" in ran.err


def test_update_takes_changes_from_a_file_but_no_other_name(run: Run, home: Path, gateway: Fake) -> None:
    gateway.owner["agent.update"] = {"name": "a", "version": 2, "changed": {}}
    (home / "a.yaml").write_text("name: a\nprompt: p\nmodel: x/y\n")
    assert (
        run("agent", "update", "a", "-f", "a.yaml", "--model", "v/w").out == "Agent 'a' is at version 2.\n  Nothing changed.\n"
    )
    assert gateway.asked[0]["params"] == {"name": "a", "changes": {"prompt": "p", "model": "v/w"}}
    assert run("agent", "update", "b", "-f", "a.yaml").code == 2


def test_env_without_a_value_is_taken_from_here(run: Run, gateway: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.owner["agent.create"] = MADE
    monkeypatch.setenv("SOME_KEY", "secret")
    run("agent", "quick", "mailer", "--runtime", "claude", "--env", "SOME_KEY")
    assert gateway.asked[0]["params"]["env"] == {"SOME_KEY": "secret"}


def test_mounts_and_volumes_are_lists_of_the_agent(run: Run, gateway: Fake) -> None:
    gateway.owner["agent.create"] = MADE
    mounts = "--work-dir a/b --mount /srv/a:/mnt/a --mount /srv/b:/mnt/b:rw --volume cache:/mnt/cache"
    run(*shlex.split(f"agent quick mailer --runtime claude --placement docker {mounts}"))
    asked = gateway.asked[0]["params"]
    assert asked["mounts"] == [
        {"source": "/srv/a", "target": "/mnt/a", "writable": False},
        {"source": "/srv/b", "target": "/mnt/b", "writable": True},
    ]
    assert asked["work_dir"] == "a/b"
    assert asked["volumes"] == [{"name": "cache", "target": "/mnt/cache"}]


def test_hooks_are_given_by_what_is_said_of_each(run: Run, gateway: Fake) -> None:
    gateway.owner["agent.update"] = {"version": 2, "changed": {}}
    line = "--hook 'pre_init=make x=1' --hook-seconds pre_init=600 --hook-seconds post_run=0.5"
    run(*shlex.split(f"agent update mailer {line}"))
    assert gateway.asked[0]["params"]["changes"]["hooks"] == {
        "pre_init": {"command": "make x=1", "seconds": 600},
        "post_run": {"seconds": 0.5},
    }


def test_a_repositorys_password_is_taken_from_a_variable(run: Run, gateway: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never stands on the command line."""
    monkeypatch.setenv("TOKEN", "s3cret")
    gateway.owner["agent.update"] = {"version": 2, "changed": {}}
    line = "--git https://x.test/y --git-ref v1 --git-depth 2 --git-submodules --git-user robot --git-password TOKEN"
    ran = run(*f"agent update mailer {line}".split())
    fields = {"url": "https://x.test/y", "ref": "v1", "depth": 2, "submodules": True, "username": "robot", "password": "s3cret"}
    assert gateway.asked[0]["params"]["changes"] == {"git": fields}
    assert "s3cret" not in f"{ran}"


@pytest.mark.parametrize(
    "line",
    [
        "agent quick mailer",
        "agent quick --runtime claude",
        "agent quick mailer --runtime claude --env NOT_SET_ANYWHERE",
        "agent quick mailer --runtime claude --env =x",
        "agent quick mailer --runtime acp --command 'a \"b'",
        "agent quick mailer --runtime claude --mount /srv/data",
        "agent quick mailer --runtime claude --mount /srv/data:/mnt/data:rx",
        "agent quick mailer --runtime claude --volume cache",
        "agent update mailer --git-ref main",
        "agent update mailer --git https://x.test/y --git-password NOT_SET_ANYWHERE",
        "agent update mailer --hook pre_init",
        "agent update mailer --hook-seconds pre_init",
        "agent update mailer --hook-seconds pre_init=long",
        "agent update mailer",
        "agent create",
        "agent create -f missing.yaml",
        "agent delete mailer",
        "callers add",
        "callers add shop --per-minute 0",
        "callers revoke shop",
        "agent nonsense",
        "nonsense",
        "sessions events x --level all",
        "agent update mailer --limit tool_calls=nan",
        "sessions list --limit 0",
        "serve --port 99999",
        "serve --port x",
        "call mailer ''",
    ],
)
def test_what_makes_no_sense_exits_2_and_asks_nobody(line: str, run: Run, gateway: Fake) -> None:
    ran = run(*shlex.split(line))
    assert (ran.code, ran.out, gateway.asked) == (2, "", [])
    assert "Error: " in ran.err


def test_a_usage_error_with_json_is_one_line_of_our_shape(run: Run) -> None:
    ran = run("sessions", "list", "--json", "--limit", "x")
    assert (ran.code, ran.out) == (2, "")
    assert set(json.loads(ran.err)) == {"code", "message", "hint"}


def test_a_noun_alone_shows_its_help(run: Run) -> None:
    ran = run("agent")
    assert ran.code == 2
    assert ran.err.startswith("Examples:\n")


@pytest.mark.parametrize(
    ("code", "exit"),
    [
        ("not_found", 1),
        ("conflict", 1),
        ("model_mismatch", 2),
        ("not_allowed", 4),
        ("unavailable", 1),
        ("of_a_later_release", 1),
    ],
)
def test_an_error_of_the_api_gives_message_hint_and_exit_code(code: str, exit: int, run: Run, gateway: Fake) -> None:
    data = {"code": code, "message": "Agent 'x' is so.", "hint": "Run: this"}
    gateway.owner["agent.show"] = {"error": {"code": -32010, "message": "Agent 'x' is so.", "data": data}}
    assert run("agent", "show", "x") == (exit, "", "Error: Agent 'x' is so. Run: this\n")
    ran = run("agent", "show", "x", "--json")
    shown = data | ({"code": "internal_error"} if code == "of_a_later_release" else {})
    assert (ran.code, ran.out, json.loads(ran.err)) == (exit, "", shown)


def test_empty_lists_say_how_to_begin(run: Run, gateway: Fake) -> None:
    gateway.owner |= {"callers.list": {"callers": []}}
    assert run("callers", "list") == (0, "", "No callers yet. Add one: switchboard callers add NAME\n")
    gateway.owner |= {"agent.list": {"agents": []}, "sessions.list": {"sessions": [], "next": None}}
    assert run("agent", "list") == (0, "", "No agents yet. Create one: switchboard agent quick NAME --runtime claude\n")
    assert run("sessions", "list") == (0, "", 'No sessions. Start one: switchboard call NAME "…"\n')


def test_wide_characters_keep_columns_aligned(run: Run, gateway: Fake) -> None:
    gateway.owner["agent.versions"] = {"versions": [{"version": 1, "runtime": "日本"}, {"version": 2, "runtime": "acp"}]}
    lines = run("agent", "versions", "a").out.splitlines()
    assert lines[1:] == ["1        -        日本     -      -", "2        -        acp      -      -"]


def test_events_are_read_page_after_page(run: Run, gateway: Fake) -> None:
    pages = [{"events": EVENTS[:2], "next": "1.1"}, {"events": EVENTS[2:], "next": "2.0"}, {"events": [], "next": "2.0"}]
    gateway.owner["sessions.events"] = list(pages)
    ran = run("sessions", "events", "ses_1")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "     1.0  2026-01-02T03:04:05Z  message         Hi\n"
        '     1.1  2026-01-02T03:04:05Z  usage           {"input_tokens": 2}\n'
        "     2.0  2026-01-02T03:04:06Z  done            completed\n"
    )
    assert [asked["params"].get("after") for asked in gateway.asked] == [None, "1.1", "2.0"]
    gateway.owner["sessions.events"] = list(pages)
    ran = run("sessions", "events", "ses_1", "--json", "--level", "user")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert lines == [*EVENTS, {"result": {"id": "ses_1", "next": "2.0"}}]
    assert gateway.asked[-1]["params"]["level"] == "user"


def test_following_events_goes_on_until_ctrl_c(switchboard: Shell, gateway: Fake) -> None:
    quiet = {"events": [], "next": "1.1"}
    gateway.owner["sessions.events"] = [{"events": EVENTS[:2], "next": "1.1"}, quiet, {"events": EVENTS[2:], "next": "2.0"}] + [
        quiet
    ] * 999
    with switchboard.start("sessions", "events", "ses_1", "--follow", "--json") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline()) for _ in EVENTS] == EVENTS
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "\n")
    assert process.returncode == 130


def test_a_check_that_fails_exits_1(run: Run, gateway: Fake) -> None:
    gateway.owner |= {"runtimes.check": {"name": "x", "ok": False, "checks": []}, "doctor": {"ok": False, "checks": CHECKS}}
    assert run("runtimes", "check", "x").code == 1
    assert run("doctor").code == 1


def test_doctor_shows_the_way_to_the_gateway_first(run: Run, gateway: Fake) -> None:
    gateway.owner["doctor"] = {"ok": True, "checks": CHECKS}
    ran = run("doctor", "--json")
    way = [
        {"name": "gateway", "ok": True, "result": f"{gateway.url} (SWITCHBOARD_URL)", "fix": ""},
        {"name": "owner key", "ok": True, "result": "from SWITCHBOARD_OWNER_KEY", "fix": ""},
    ]
    assert (ran.code, json.loads(ran.out), ran.err) == (0, {"ok": True, "checks": [*way, *CHECKS]}, "")


@pytest.mark.parametrize(
    ("options", "failed"), [(["--url", "http://127.0.0.1:1"], "gateway"), (["--key", "other"], "owner key")]
)
def test_doctor_says_what_stands_in_the_way(options: list[str], failed: str, run: Run) -> None:
    ran = run("doctor", "--json", *options)
    report = json.loads(ran.out)
    assert (ran.code, report["ok"], ran.err) == (1, False, "")
    assert [check["name"] for check in report["checks"] if not check["ok"]] == [failed]
    assert all(check["fix"] for check in report["checks"] if not check["ok"])


def test_output_into_a_closed_pipe_makes_no_noise(switchboard: Shell, gateway: Fake) -> None:
    gateway.owner["agent.card"] = {"name": "x" * 1_000_000}
    with switchboard.start("agent", "card", "x") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
