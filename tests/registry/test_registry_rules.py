"""The registry's rules, catalogue, secrets and key files, where the endpoint cannot show them."""

from __future__ import annotations

import base64
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, select
from sqlmodel import SQLModel

from registry import catalog, keyfile, repo, rules
from registry.makeup import FIELDS, Makeup, differing
from registry.models import AgentVersion
from registry.rules import Invalid, KeyFileUnsafe, Mismatch, Missing, RuntimeFacts, Taken, Unreadable
from registry.secrets import Secrets

MANY = RuntimeFacts("many", providers=frozenset({"anthropic", "acme"}), modes=frozenset({"one"}), default_mode="one")


def test_the_catalogue_knows_the_models_of_three_providers_by_canonical_id() -> None:
    assert catalog.providers() == {"anthropic", "openai", "google"}
    known = {"anthropic/claude-sonnet-4-5", "openai/gpt-5.5", "openai/gpt-4.1", "openai/o3", "google/gemini-2.5-pro"}
    assert known <= set(catalog.models())
    for id, model in catalog.models().items():
        assert rules.split_model(id) == (model.provider, model.model_id)
        assert model.name


def test_a_model_newer_than_the_catalogue_is_accepted_with_a_warning() -> None:
    assert rules.check_model("anthropic/claude-opus-9", MANY) == [
        "Model 'anthropic/claude-opus-9' is not in the catalogue; it is passed on as it is."
    ]


def test_a_provider_only_the_runtime_knows_is_accepted() -> None:
    assert rules.check_model("acme/one", MANY) != []


def test_a_model_of_another_provider_is_a_mismatch() -> None:
    with pytest.raises(Mismatch) as info:
        rules.check_model("openai/gpt-5", MANY)
    assert info.value.message == "Runtime 'many' cannot drive model 'openai/gpt-5': it drives models of acme, anthropic."


@pytest.mark.parametrize(
    "model", ["", "/", "anthropic/", "/x", "a b/c", "anthropic/x y", "anthropic/x\n", "ANTHROPIC/x", "openai"]
)
def test_a_malformed_model_is_refused(model: str) -> None:
    with pytest.raises(Invalid):
        rules.check_model(model, MANY)


def test_a_model_without_its_provider_is_told_the_whole_id() -> None:
    with pytest.raises(Invalid) as info:
        rules.check_model("gpt-5.5", MANY)
    assert info.value.hint == "Did you mean 'openai/gpt-5.5'?"


@given(st.text(max_size=80))
def test_a_name_that_passes_is_a_safe_piece_of_a_url(name: str) -> None:
    try:
        rules.check_name(name)
    except Invalid:
        return
    assert 1 <= len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name not in rules.RESERVED


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "ld_preload", "DYLD_INSERT_LIBRARIES", "HOME", "Path", "NODE_OPTIONS", "SWITCHBOARD_X"]
)
def test_variables_that_decide_what_runs_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        rules.check_env({name: "x"})


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "5", True, None, 1e13])
def test_a_limit_is_a_number_above_zero(value: Any) -> None:
    with pytest.raises(Invalid):
        rules.check_limits({"turn_seconds": value})


def test_makeups_differ_field_by_field() -> None:
    one = Makeup("many")
    assert differing(one, one) == []
    assert differing(one, replace(one, prompt="x", public=False)) == ["prompt", "public"]
    assert set(FIELDS) < set(AgentVersion.model_fields)


@given(st.text(), st.text(max_size=20))
def test_what_is_sealed_opens_in_its_own_place_only(value: str, place: str) -> None:
    secrets = Secrets({"k1": b"1" * 32}, "k1")
    box = secrets.box("agent_version", "agt_1")
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    blob = box.seal(place, value)
    assert box.open(place, blob) == value
    for other in (secrets.box("agent_version", "agt_2"), secrets.box("other", "agt_1")):
        with pytest.raises(Unreadable):
            other.open(place, blob)
    with pytest.raises(Unreadable):
        box.open(place + "x", blob)


@pytest.mark.parametrize("damage", ["", "v1", "v1.k1", "v2.k1.AAAA", "v1.gone.AAAA", "v1.k1.!!!!", "v1.k1.AAAA", "plain text"])
def test_a_damaged_blob_does_not_open(damage: str) -> None:
    with pytest.raises(Unreadable):
        Secrets({"k1": b"1" * 32}, "k1").box("t", "r").open("p", damage)


def test_the_same_value_never_looks_the_same() -> None:
    box = Secrets({"k1": b"1" * 32}, "k1").box("t", "r")
    assert box.seal("p", "v") != box.seal("p", "v")


def test_a_key_that_is_added_seals_and_the_old_one_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    old = Secrets.load(path)
    blob = old.box("t", "r").seal("p", "v")
    with path.open("a", encoding="ascii") as file:
        file.write(f"k2 {base64.b64encode(b'2' * 32).decode()}\n")
    new = Secrets.load(path)
    assert new.box("t", "r").open("p", blob) == "v"
    assert new.box("t", "r").seal("p", "v").split(".")[1] == "k2"


def test_the_repository_keeps_a_deleted_agents_versions_apart_from_its_successors(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    SQLModel.metadata.create_all(engine)
    with engine.begin() as conn:
        first = repo.create(conn, "agt_1", "mailer", Makeup("many", prompt="first"), [], 1)
        with pytest.raises(Taken):
            repo.create(conn, "agt_2", "mailer", Makeup("many"), [], 2)
        assert repo.delete(conn, "mailer", 3) == first
        second = repo.create(conn, "agt_2", "mailer", Makeup("many", prompt="second"), [], 4)
        assert repo.get(conn, "mailer") == second
        assert repo.get_version(conn, "agt_1", 1) == first
        assert [version.id for version in repo.versions(conn, "mailer")] == ["agt_2"]
        assert repo.listing(conn) == [second]
        with pytest.raises(Missing):
            repo.get_version(conn, "agt_1", 2)
        assert conn.execute(select(AgentVersion.prompt).order_by(AgentVersion.agent_id)).scalars().all() == ["first", "second"]
    engine.dispose()


def test_of_processes_that_start_at_once_all_read_the_same_key(tmp_path: Path) -> None:
    path, seen = tmp_path / "data" / "x.key", []
    barrier = threading.Barrier(8)

    def start(number: int) -> None:
        barrier.wait(5)
        seen.append(keyfile.read_or_create(path, lambda: f"key{number}"))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [file.name for file in path.parent.iterdir()] == ["x.key"]


@pytest.mark.parametrize("text", ["", "k1", "k1 !!!", "k1 QUJD", "k1 QUJD extra"])
def test_a_damaged_secrets_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.key"
    path.write_text(text, encoding="ascii")
    path.chmod(0o600)
    with pytest.raises(KeyFileUnsafe):
        Secrets.load(path)
