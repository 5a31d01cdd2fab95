"""Agents through the owners' endpoint: create, show, change, delete. [OWN-2] [OWN-3]"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select

from gateway.log.models import Session
from gateway.owner import http
from registry import repo
from registry.models import AgentVersion
from registry.rules import LIMITS
from tests.gateway.owner.owner_api import GAMMA, Api

SET = ("turn_seconds", "stall_seconds", "max_turns", "turn_attempts")  # limits that have a default, or are given below
SKILL = {"id": "mail", "name": "Mail", "description": "Writes mail.", "tags": ["mail"], "examples": ["Write to Bo"]}
SERVER = {"name": "db", "command": "db-mcp", "args": ["--ro"], "env": {"DB_TOKEN": "tok-9f8e7d"}}


async def test_create_answers_the_whole_agent_without_its_secrets(api: Api) -> None:
    api.install("alpha-cli", "echo 2.1.0")
    made = await api.call(
        "agent.create",
        name="mailer",
        runtime="alpha",
        mode="stream",
        model="anthropic/claude-opus-4-6",
        prompt="Write short mails.",
        description="Writes mails.",
        skills=[SKILL],
        limits={"turn_seconds": 60, "max_turns": 3},
        env={"MAIL_TOKEN": "tok-123456"},
        mcp_servers=[SERVER],
        placement="sandboxed",
        egress=["api.example.com", "*.example.org:8443"],
        egress_mode="audit",
        work_dir="services/mailer",
        volumes=[{"name": "cache", "target": "/mnt/cache"}],
        public=False,
    )
    assert made.pop("created_at") == made.pop("updated_at")
    assert made == {
        "name": "mailer",
        "version": 1,
        "url": "https://agents.example.com/agents/mailer",
        "card_url": "https://agents.example.com/agents/mailer/.well-known/agent-card.json",
        "runtime": "alpha",
        "mode": "stream",
        "model": "anthropic/claude-opus-4-6",
        "prompt": "Write short mails.",
        "description": "Writes mails.",
        "skills": [SKILL],
        "provider": None,
        "documentation_url": None,
        "icon_url": None,
        "input_modes": [],
        "output_modes": [],
        "tags": [],
        "limits": {"turn_seconds": 60, "max_turns": 3},
        "env": {"MAIL_TOKEN": "set"},
        "command": [],
        "mcp_servers": [{**SERVER, "env": {"DB_TOKEN": "set"}}],
        "placement": "sandboxed",
        "egress": ["api.example.com", "*.example.org:8443"],
        "egress_mode": "audit",
        "git": None,
        "hooks": {},
        "work_dir": "services/mailer",
        "mounts": [],
        "volumes": [{"name": "cache", "target": "/mnt/cache"}],
        "security_opt": [],
        "public": False,
        "extended": None,
        "warnings": [],
    }


async def test_quick_fills_description_and_skill_without_a_word_of_the_runtime(api: Api) -> None:
    made = await api.call("agent.create", name="mailer", runtime="rehearsal", quick=True)
    assert made["description"]
    assert [skill["id"] for skill in made["skills"]] == ["chat"]
    assert made["warnings"] == []
    assert "rehearsal" not in json.dumps([made["description"], made["skills"]]).lower()


async def test_quick_keeps_what_was_given(api: Api) -> None:
    made = await api.call("agent.create", name="mailer", runtime="rehearsal", quick=True, description="Mine.")
    assert made["description"] == "Mine."


async def test_create_warns_of_what_is_missing(api: Api) -> None:
    made = await api.call("agent.create", name="mailer", runtime="beta", model="openai/gpt-55")
    assert made["warnings"] == [
        "Model 'openai/gpt-55' is not in the catalogue; it is passed on as it is. Did you mean 'openai/gpt-5.5'?",
        "Runtime 'beta' was not found on PATH of the gateway. Install it: install alpha",
        "Neither the agent nor the gateway has OPENAI_API_KEY. Run: switchboard agent update mailer --env OPENAI_API_KEY=...",
        "The agent runs UNSANDBOXED: its commands may do whatever the gateway's own user may do. "
        "Run: switchboard agent update mailer --placement sandboxed",
        "Callers read no description. Run: switchboard agent update mailer --description ...",
    ]


async def test_a_name_is_taken_until_its_agent_is_deleted(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    refused = await api.refusal("agent.create", name="mailer", runtime="rehearsal")
    assert (refused.error["code"], refused.code) == (-32011, "conflict")
    assert await api.call("agent.delete", name="mailer") == {"name": "mailer", "deleted": True}
    made = await api.call("agent.create", name="mailer", runtime="rehearsal")
    assert made["version"] == 1


@pytest.mark.parametrize(
    ("params", "code", "word"),
    [
        ({"name": "agents"}, "invalid_params", "reserved"),
        ({"name": "Mailer"}, "invalid_params", "'Mailer'"),
        ({"name": "mailer\n"}, "invalid_params", "mailer"),
        ({"name": "-mailer"}, "invalid_params", "'-mailer'"),
        ({"name": "m" * 64}, "invalid_params", "mmm"),
        ({"name": ""}, "invalid_params", "''"),
        ({"runtime": "alfa"}, "not_found", "'alfa'"),
        ({"mode": "jsonl"}, "invalid_params", "'jsonl'"),
        ({"model": "openai/gpt-5.5"}, "model_mismatch", "'openai/gpt-5.5'"),
        ({"model": "acme/one"}, "invalid_params", "'acme'"),
        ({"model": "claude-sonnet-4-6"}, "invalid_params", "'claude-sonnet-4-6'"),
        ({"limits": {"turn_seconds": 0}}, "invalid_params", "turn_seconds"),
        ({"limits": {"turn_cost_usd": -1}}, "invalid_params", "turn_cost_usd"),
        ({"limits": {"tool_cals": 1}}, "invalid_params", "tool_cals"),
        ({"limits": {"max_turns": 1.5}}, "invalid_params", "1.5"),
        ({"limits": {"max_turns": True}}, "invalid_params", "True"),
        ({"limits": {"tokens": 5}}, "invalid_params", "'tokens'"),
        ({"env": {"LD_PRELOAD": "/tmp/x.so"}}, "invalid_params", "LD_PRELOAD"),
        ({"env": {"PATH": "/tmp"}}, "invalid_params", "PATH"),
        ({"env": {"A B": "x"}}, "invalid_params", "'A B'"),
        ({"env": {"A": "x\x00y"}}, "invalid_params", "'A'"),
        ({"prompt": "a\x00b"}, "invalid_params", "position 1"),
        ({"prompt": "x" * (2**20 + 1)}, "invalid_params", "1048577"),
        ({"skills": [SKILL, SKILL]}, "invalid_params", "'mail'"),
        ({"skills": [{"id": "mail"}]}, "invalid_params", "skills.0.name"),
        ({"command": ["mine"]}, "invalid_params", "'mine'"),
        ({"runtime": "own"}, "invalid_params", "command"),
        ({"runtime": "own", "command": [""]}, "invalid_params", "empty program"),
        ({"runtime": "rehearsal", "model": "openai/gpt-5"}, "model_mismatch", "chooses its model itself"),
        ({"mcp_servers": [{"name": "db"}]}, "invalid_params", "command or url"),
        ({"mcp_servers": [SERVER, SERVER]}, "invalid_params", "'db'"),
        ({"icon_url": "/icon.png"}, "invalid_params", "'/icon.png'"),
        ({"icon_url": "ftp://example.com/icon.png"}, "invalid_params", "ftp://"),
        ({"documentation_url": "https://me:hush@example.com"}, "invalid_params", "documentation_url"),
        ({"documentation_url": "https://example.com/a b"}, "invalid_params", "a b"),
        ({"documentation_url": "https://example.com:99999/"}, "invalid_params", "99999"),
        ({"provider": {"organization": "Acme", "url": "acme"}}, "invalid_params", "provider.url: 'acme'"),
        ({"provider": {"organization": "Acme"}}, "invalid_params", "provider.url"),
        ({"input_modes": ["text"]}, "invalid_params", "'text'"),
        ({"output_modes": ["text/plain", "text/plain"]}, "invalid_params", "'text/plain'"),
        ({"tags": ["mail", "mail"]}, "invalid_params", "'mail'"),
        ({"tags": [""]}, "invalid_params", "tags.0"),
        ({"promt": "x"}, "invalid_params", "'promt'"),
        ({"prompt": 5}, "invalid_params", "(was 5)"),
        ({"placement": "moon"}, "invalid_params", "moon"),
        ({"egress": "none"}, "invalid_params", "'local'"),
        ({"mounts": [{"source": "/etc", "target": "/mnt/e"}], "placement": "docker"}, "invalid_params", "'/etc'"),
        ({"mounts": [{"source": "/etc"}], "placement": "docker"}, "invalid_params", "target"),
        ({"volumes": [{"name": "../x", "target": "/mnt/e"}], "placement": "docker"}, "invalid_params", "name"),
        ({"volumes": [{"name": "x", "target": "/etc"}], "placement": "docker"}, "invalid_params", "'/etc'"),
        ({"security_opt": ["seccomp=unconfined"], "placement": "docker"}, "invalid_params", "seccomp=unconfined"),
        ({"limits": {"memory_mb": 100}}, "invalid_params", "'memory_mb'"),
        ({"egress_mode": "audit"}, "invalid_params", "'local'"),
        ({"egress_mode": "loose"}, "invalid_params", "'loose'"),
        ({"egress": "some", "placement": "sandboxed"}, "invalid_params", "'some'"),
        ({"egress": [], "placement": "sandboxed"}, "invalid_params", "'[]'"),
        ({"egress": ["a.example", "10.0.0.1"], "placement": "sandboxed"}, "invalid_params", "'10.0.0.1'"),
        ({"egress": ["a.example", "a.example"], "placement": "sandboxed"}, "invalid_params", "'a.example'"),
        ({"egress": ["h"] * 501, "placement": "sandboxed"}, "invalid_params", "501"),
        ({"public": "yes"}, "invalid_params", "public"),
    ],
)
async def test_create_refuses_with_the_value_and_a_mend(api: Api, params: dict[str, Any], code: str, word: str) -> None:
    refused = await api.refusal("agent.create", **{"name": "mailer", "runtime": "alpha", **params})
    assert refused.code == code
    assert word in refused.error["message"]
    assert await api.call("agent.list") == {"agents": []}


async def test_errors_never_quote_what_may_be_a_secret(api: Api) -> None:
    for params in ({"env": {"TOKEN": ["hush-hush"]}}, {"mcp_servers": [{"name": "db", "headers": "hush-hush"}]}):
        refused = await api.refusal("agent.create", name="mailer", runtime="alpha", **params)
        assert "hush" not in json.dumps(refused.error)


async def test_a_mismatch_names_the_model_what_the_runtime_drives_and_the_mend(api: Api) -> None:
    refused = await api.refusal("agent.create", name="mailer", runtime="alpha", model="openai/gpt-5.5")
    assert refused.error == {
        "code": -32602,
        "message": "Runtime 'alpha' cannot drive model 'openai/gpt-5.5': it drives models of anthropic.",
        "data": {
            "code": "model_mismatch",
            "message": "Runtime 'alpha' cannot drive model 'openai/gpt-5.5': it drives models of anthropic.",
            "hint": "Choose a model such as 'anthropic/claude-sonnet-4-6', null for the runtime's default, or another runtime.",
        },
    }


async def test_list_is_sorted_by_name(api: Api) -> None:
    await api.call("agent.create", name="zed", runtime="rehearsal")
    made = await api.call("agent.create", name="amy", runtime="alpha", model="anthropic/claude-haiku-4-5", description="A.")
    listed = (await api.call("agent.list"))["agents"]
    assert [agent["name"] for agent in listed] == ["amy", "zed"]
    assert listed[0] == {
        "name": "amy",
        "runtime": "alpha",
        "model": "anthropic/claude-haiku-4-5",
        "version": 1,
        "description": "A.",
        "url": "https://agents.example.com/agents/amy",
        "updated_at": made["updated_at"],
    }


async def test_show_says_where_each_value_came_from(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="alpha", description="First.", env={"TOKEN": "t"})
    await api.call("agent.update", name="mailer", changes={"description": "Second.", "limits": {"max_turns": 4}})
    shown = await api.call("agent.show", name="mailer")
    assert shown["version"] == 2
    assert shown["values"] == {
        "runtime": {"value": "alpha", "source": "agent version 1"},
        "mode": {"value": "stream", "source": "default of runtime alpha"},
        "model": {"value": "anthropic/claude-sonnet-4-6", "source": "default of runtime alpha"},
        "prompt": {"value": "", "source": "default"},
        "description": {"value": "Second.", "source": "agent version 2"},
        "skills": {"value": [], "source": "default"},
        "provider": {"value": None, "source": "default"},
        "documentation_url": {"value": None, "source": "default"},
        "icon_url": {"value": None, "source": "default"},
        "input_modes": {"value": [], "source": "default"},
        "output_modes": {"value": [], "source": "default"},
        "tags": {"value": [], "source": "default"},
        "limits.turn_seconds": {"value": 3600, "source": "default"},
        "limits.stall_seconds": {"value": 600, "source": "default"},
        "limits.max_turns": {"value": 4, "source": "agent version 2"},
        **{f"limits.{name}": {"value": None, "source": "default"} for name in LIMITS if name not in SET},
        "limits.turn_attempts": {"value": 3, "source": "default"},
        "env.TOKEN": {"value": "set", "source": "agent version 1"},
        "env.ANTHROPIC_API_KEY": {"value": "set", "source": "environment of the gateway"},
        "command": {"value": [], "source": "default"},
        "mcp_servers": {"value": [], "source": "default"},
        "placement": {"value": "local", "source": "default"},
        "egress": {"value": "all", "source": "default"},
        "egress_mode": {"value": "strict", "source": "default"},
        "git": {"value": None, "source": "default"},
        "hooks": {"value": {}, "source": "default"},
        "work_dir": {"value": "", "source": "default"},
        "mounts": {"value": [], "source": "default"},
        "volumes": {"value": [], "source": "default"},
        "security_opt": {"value": [], "source": "default"},
        "public": {"value": True, "source": "default"},
        "extended": {"value": None, "source": "default"},
    }


async def test_show_of_no_agent_names_the_nearest(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    refused = await api.refusal("agent.show", name="maler")
    assert (refused.error["code"], refused.code, refused.hint) == (-32010, "not_found", "Did you mean 'mailer'?")


async def test_update_answers_what_changed(api: Api) -> None:
    await api.call(
        "agent.create", name="mailer", runtime="rehearsal", description="Old.", limits={"max_turns": 1, "turn_seconds": 9}
    )
    changes = {"description": "New.", "limits": {"max_turns": 2, "turn_seconds": None}, "prompt": ""}
    updated = await api.call("agent.update", name="mailer", changes=changes)
    assert updated == {
        "name": "mailer",
        "version": 2,
        "changed": {
            "description": {"old": "Old.", "new": "New."},
            "limits": {"old": {"max_turns": 1, "turn_seconds": 9}, "new": {"max_turns": 2}},
        },
        "warnings": [],
    }


async def test_an_update_that_changes_nothing_makes_no_version(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", description="Same.", env={"TOKEN": "t"})
    updated = await api.call("agent.update", name="mailer", changes={"description": "Same.", "env": {"TOKEN": "t"}})
    assert (updated["version"], updated["changed"]) == (1, {})
    shown_again = await api.call("agent.update", name="mailer", changes={"env": {"TOKEN": "set"}})
    assert shown_again["version"] == 1


async def test_env_is_merged_and_null_takes_a_variable_away(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", env={"ONE": "1", "TWO": "2"})
    updated = await api.call("agent.update", name="mailer", changes={"env": {"ONE": None, "TWO": "set", "THREE": "3"}})
    assert updated["changed"] == {"env": {"old": {"ONE": "set", "TWO": "set"}, "new": {"TWO": "set", "THREE": "set"}}}
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    assert agent.opened(api.owner.secrets).env == {"TWO": "2", "THREE": "3"}


async def test_secrets_of_mcp_servers_come_back_as_set_and_may_be_sent_so(api: Api) -> None:
    made = await api.call("agent.create", name="mailer", runtime="alpha", mcp_servers=[SERVER])
    shown = made["mcp_servers"][0]
    await api.call("agent.update", name="mailer", changes={"mcp_servers": [{**shown, "args": ["--rw"]}]})
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    assert agent.opened(api.owner.secrets).mcp_servers == [{**SERVER, "args": ["--rw"]}]


async def test_a_change_of_runtime_takes_mode_and_command_along_but_not_a_model_it_cannot_drive(api: Api) -> None:
    api.install("alpha-cli", "echo 2.1.0")
    await api.call("agent.create", name="mailer", runtime="own", command=["mine"], mode="jsonl", description="M.")
    updated = await api.call("agent.update", name="mailer", changes={"runtime": "alpha", "model": "anthropic/claude-opus-4-6"})
    assert updated["changed"] == {
        "runtime": {"old": "own", "new": "alpha"},
        "mode": {"old": "jsonl", "new": None},
        "model": {"old": None, "new": "anthropic/claude-opus-4-6"},
        "command": {"old": ["mine"], "new": []},
    }
    refused = await api.refusal("agent.update", name="mailer", changes={"runtime": "beta"})
    assert refused.code == "model_mismatch"
    updated = await api.call("agent.update", name="mailer", changes={"runtime": "beta", "model": None})
    assert updated["version"] == 3
    key = "Run: switchboard agent update mailer --env OPENAI_API_KEY=..."
    assert f"Neither the agent nor the gateway has OPENAI_API_KEY. {key}" in updated["warnings"]


async def test_mcp_servers_a_mode_cannot_use_are_warned_of(api: Api) -> None:
    made = await api.call("agent.create", name="mailer", runtime="alpha", mode="plain", mcp_servers=[SERVER])
    assert "Runtime 'alpha' cannot use MCP servers in this mode; they are left out." in made["warnings"]


async def test_an_update_made_from_an_old_version_conflicts(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    await api.call("agent.update", name="mailer", changes={"prompt": "one"}, if_version=1)
    refused = await api.refusal("agent.update", name="mailer", changes={"prompt": "two"}, if_version=1)
    assert (refused.error["code"], refused.code) == (-32011, "conflict")
    assert (await api.call("agent.show", name="mailer"))["values"]["prompt"]["value"] == "one"


async def test_two_updates_at_once_both_make_a_version_and_none_is_lost(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    answers: list[int] = []

    async def update(**changes: Any) -> None:
        answers.append((await api.call("agent.update", name="mailer", changes=changes))["version"])

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(lambda n=number: update(env={f"VAR_{n}": str(n)}))
    assert sorted(answers) == list(range(2, 12))
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    assert agent.opened(api.owner.secrets).env == {f"VAR_{n}": str(n) for n in range(10)}


async def test_of_two_updates_from_the_same_version_one_conflicts(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    body = [
        {
            "jsonrpc": "2.0",
            "id": n,
            "method": "agent.update",
            "params": {"name": "mailer", "changes": {"prompt": str(n)}, "if_version": 1},
        }
        for n in (1, 2)
    ]
    answers = (await api.post(json.dumps(body))).json()
    assert sorted(answer.get("error", {}).get("code", 0) for answer in answers) == [-32011, 0]


async def test_sessions_in_flight_keep_their_version(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", description="M.")
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    row = {
        "agent_id": agent.id,
        "agent_version": 1,
        "principal": "p",
        "fence": 0,
        "native": {},
        "created_at": 1,
        "updated_at": 1,
    }
    rows = [{**row, "id": f"ses_{status}", "status": status} for status in ("running", "idle", "awaiting_input")]
    await api.owner.database.write(lambda conn: conn.execute(insert(Session), rows))
    updated = await api.call("agent.update", name="mailer", changes={"prompt": "x"})
    assert updated["warnings"] == ["2 sessions in flight keep the version they began with."]


async def test_versions_are_listed_newest_first_and_stay_as_they_were(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", prompt="one")
    await api.call("agent.update", name="mailer", changes={"prompt": "two", "description": "D."})
    found = await api.call("agent.versions", name="mailer")
    assert all(version.pop("created_at").endswith("Z") for version in found["versions"])
    assert found == {
        "name": "mailer",
        "versions": [
            {"version": 2, "changed": ["prompt", "description"], "runtime": "rehearsal", "model": None},
            {"version": 1, "changed": ["prompt", "runtime"], "runtime": "rehearsal", "model": None},
        ],
    }
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    first = await api.owner.database.read(lambda conn: repo.get_version(conn, agent.id, 1))
    assert (first.version, first.makeup.prompt, agent.makeup.prompt) == (1, "one", "two")


async def test_a_deleted_agent_is_gone_for_every_method_but_its_versions_stay(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal")
    agent = await api.owner.database.read(lambda conn: repo.get(conn, "mailer"))
    await api.call("agent.delete", name="mailer")
    for method in ("agent.show", "agent.delete", "agent.versions", "agent.card"):
        assert (await api.refusal(method, name="mailer")).code == "not_found"
    assert (await api.refusal("agent.update", name="mailer", changes={"prompt": "x"})).code == "not_found"
    assert await api.owner.database.read(lambda conn: repo.get_version(conn, agent.id, 1)) == agent


async def test_card_is_what_callers_read(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", description="M.")
    assert await api.call("agent.card", name="mailer") == {"name": "mailer", "version": "1", "description": "M."}


async def test_no_secret_stands_anywhere_in_the_data_directory(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="alpha", env={"TOKEN": "hush-hush-1"}, mcp_servers=[SERVER])
    await api.call("agent.update", name="mailer", changes={"env": {"TOKEN": "hush-hush-2"}})
    files = [path for path in (api.directory / "data").rglob("*") if path.is_file()]
    assert any(path.name.endswith(".db") for path in files)
    stored = b"".join(path.read_bytes() for path in files)
    assert b"mailer" in stored
    assert not [secret for secret in (b"hush-hush", b"tok-9f8e7d") if secret in stored]


async def test_a_secret_moved_to_another_variable_does_not_open(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="rehearsal", env={"ONE": "1", "TWO": "2"})
    env = await api.owner.database.read(lambda conn: conn.execute(select(AgentVersion.env)).scalar_one())
    swapped = {"ONE": env["TWO"], "TWO": env["ONE"]}
    table = AgentVersion.__table__
    await api.owner.database.write(lambda conn: conn.execute(table.update().values(env=swapped)))
    refused = await api.refusal("agent.update", name="mailer", changes={"env": {"ONE": "x"}})
    assert refused.code == "unavailable"


async def test_an_agent_with_a_policy_does_not_leave_its_sandbox(api: Api) -> None:
    await api.call("agent.create", name="mailer", runtime="alpha", placement="sandboxed", egress="none")
    refused = await api.refusal("agent.update", name="mailer", changes={"placement": "local"})
    assert (
        refused.error["message"]
        == "An egress policy needs a sandbox or a container around the agent, and it is placed 'local'."
    )
    assert refused.hint == "Set placement to sandboxed or docker too, or egress to all and egress_mode to strict."
    updated = await api.call("agent.update", name="mailer", changes={"placement": None, "egress": None})
    assert updated["changed"] == {
        "placement": {"old": "sandboxed", "new": "local"},
        "egress": {"old": "none", "new": "all"},
    }


async def test_a_runtime_of_many_providers_needs_a_model_with_a_policy(api: Api) -> None:
    """Whose key should the gateway add?"""
    owner = replace(api.owner, profiles={**api.owner.profiles, "gamma": GAMMA})
    api.client._transport.app.routes[:] = http.routes(owner, api.key)  # type: ignore[attr-defined]
    wanted = {"name": "mailer", "runtime": "gamma", "placement": "sandboxed", "egress": "none"}
    refused = await api.refusal("agent.create", **wanted)
    assert refused.error["message"] == "With an egress policy runtime 'gamma' must be told its model."
    made = await api.call("agent.create", **wanted, model="openai/gpt-5.5")
    assert made["egress"] == "none"
