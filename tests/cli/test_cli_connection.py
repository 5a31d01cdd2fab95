"""Where the gateway and the owner key are looked for, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.connection import Found, find_key, find_token, find_url
from gateway.errors import UsageError
from gateway.settings import Settings
from tests.cli.cli_fake import KEY, Fake
from tests.cli.conftest import Run

HERE = Found("http://127.0.0.1:8000", "default")


def user_file(home: Path) -> Path:
    path = home / ".config" / "switchboard" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_url_comes_from_flag_then_environment_then_project_then_user_then_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, user = home / "project", user_file(home)
    (project / "deep").mkdir(parents=True)
    (project / "switchboard.toml").write_text('url = "http://project:1"')
    user.write_text('url = "http://user:1/"')
    monkeypatch.setenv("SWITCHBOARD_URL", "http://environment:1")
    monkeypatch.chdir(project / "deep")
    assert find_url("http://flag:1/") == Found("http://flag:1", "--url")
    assert find_url(None) == Found("http://environment:1", "SWITCHBOARD_URL")
    monkeypatch.setenv("SWITCHBOARD_URL", "")
    assert find_url(None) == Found("http://project:1", str(project / "switchboard.toml"), from_project=True)
    monkeypatch.chdir(home)
    assert find_url(None) == Found("http://user:1", str(user))
    user.write_text("")
    assert find_url(None) == HERE
    monkeypatch.setenv("SWITCHBOARD_PORT", "9000")
    assert find_url(None) == Found("http://127.0.0.1:9000", "SWITCHBOARD_HOST and SWITCHBOARD_PORT")


def test_key_comes_from_flag_then_environment_then_project_then_user_then_data_dir(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, user, data = home / "switchboard.toml", user_file(home), home / "data"
    data.mkdir()
    (data / "owner.key").write_text("of-data-dir\n")
    project.write_text('owner_key = "of-project"')
    user.write_text('owner_key = "of-user"')
    monkeypatch.setenv("SWITCHBOARD_DATA_DIR", str(data))
    monkeypatch.setenv("SWITCHBOARD_OWNER_KEY", "of-environment")
    assert find_key("of-flag", HERE) == Found("of-flag", "--key")
    assert find_key(None, HERE) == Found("of-environment", "SWITCHBOARD_OWNER_KEY")
    monkeypatch.delenv("SWITCHBOARD_OWNER_KEY")
    assert find_key(None, HERE) == Found("of-project", str(project), from_project=True)
    project.unlink()
    assert find_key(None, HERE) == Found("of-user", str(user))
    user.unlink()
    assert find_key(None, HERE) == Found("of-data-dir", str(data / "owner.key"))
    (data / "owner.key").unlink()
    assert find_key(None, HERE) is None


@pytest.mark.parametrize(("host", "port"), [(None, None), ("0.0.0.0", "81"), ("::1", None), ("gateway.test", "82")])
def test_defaults_are_those_of_the_gateway(
    host: str | None, port: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SWITCHBOARD_HOST", host), ("SWITCHBOARD_PORT", port)):
        if value is not None:
            monkeypatch.setenv(name, value)
    settings = Settings()
    settings.data_dir.mkdir(parents=True)
    settings.owner_key_file.write_text("the-key")
    assert find_url(None).value == settings.url
    assert find_key(None, HERE) == Found("the-key", str(settings.owner_key_file))


def test_a_project_file_that_leads_elsewhere_gets_no_key_of_the_users_own_gateway(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_file(home).write_text('owner_key = "of-user"')
    (home / "owner.key").write_text("of-data-dir")
    monkeypatch.setenv("SWITCHBOARD_DATA_DIR", str(home))
    away, near = (Found(url, "switchboard.toml", from_project=True) for url in ("http://away.test", "http://localhost:9"))
    assert find_key(None, away) is None
    assert find_key("of-flag", away) == Found("of-flag", "--key")
    found = find_key(None, near)
    assert found is not None
    assert found.value == "of-user"


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "http://", "nonsense", "http://[::1", "http://host:port", "http://host:99999"]
)
def test_a_url_that_is_none_is_a_usage_error_that_quotes_it(url: str, run: Run) -> None:
    ran = run("agent", "list", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert repr(url) in ran.err


@pytest.mark.parametrize("text", ["url = ", "url = 5", "\udcff"])
def test_a_broken_project_file_is_named(text: str, home: Path) -> None:
    path = home / "switchboard.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"switchboard\.toml"):
        find_url(None)


def test_a_key_that_is_none_is_never_sent(run: Run, gateway: Fake) -> None:
    assert run("agent", "list", "--key", "schlüssel").code == 2
    assert gateway.asked == []


def test_the_key_is_sent_to_the_owner_api_and_not_to_agents(run: Run, gateway: Fake) -> None:
    gateway.owner["agent.list"] = {"agents": []}
    gateway.frames = [("1", {"message": {"contextId": "c", "parts": [{"text": "hi"}]}})]
    run("agent", "list")
    run("call", "mailer", "hello")
    assert [headers.get("authorization") for headers in gateway.headers] == [f"Bearer {KEY}", None]


def test_a_callers_token_is_sent_to_agents_and_not_to_the_owner_api(
    run: Run, gateway: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.owner["agent.list"] = {"agents": []}
    gateway.frames = [("1", {"message": {"contextId": "c", "parts": [{"text": "hi"}]}})]
    monkeypatch.setenv("SWITCHBOARD_TOKEN", "from-environment")
    run("call", "mailer", "hello")
    run("call", "mailer", "hello", "--token", "from-flag")
    run("agent", "list")
    sent = [headers.get("authorization") for headers in gateway.headers]
    assert sent == ["Bearer from-environment", "Bearer from-flag", f"Bearer {KEY}"]
    assert run("call", "mailer", "hello", "--token", "schlüssel").code == 2
    assert len(gateway.asked) == 3


def test_the_token_of_the_user_file_is_not_shown_to_a_stranger(home: Path) -> None:
    user_file(home).write_text('token = "mine"')
    (home / "switchboard.toml").write_text('url = "https://stranger.example.com"')
    assert find_token(None, find_url(None)) is None
    assert find_token(None, HERE) == Found("mine", str(home / ".config" / "switchboard" / "config.toml"))
    assert find_token("named", find_url(None)) == Found("named", "--token")


@pytest.mark.parametrize(
    "command", [("agent", "list"), ("call", "mailer", "hi"), ("sessions", "list"), ("runtimes", "check", "x")]
)
def test_an_unreachable_gateway_is_said_with_the_command_that_starts_it(command: tuple[str, ...], run: Run) -> None:
    ran = run(*command, "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "Error: No gateway answers at http://127.0.0.1:1 (from: --url). Start it with: switchboard serve\n"


def test_without_a_key_the_place_where_it_lies_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("SWITCHBOARD_OWNER_KEY")
    monkeypatch.setenv("SWITCHBOARD_DATA_DIR", str(home))
    ran = run("agent", "list")
    assert ran.code == 4
    assert "wants an owner key and none was found" in ran.err
    assert str(home / "owner.key") in ran.err


def test_a_wrong_key_is_said_with_its_source(run: Run) -> None:
    ran = run("agent", "list", "--key", "sbo_other")
    assert ran.code == 4
    assert "did not accept the owner key from --key" in ran.err
    assert "sbo_other" not in ran.err


def test_a_server_that_is_no_gateway_is_not_believed(run: Run, gateway: Fake) -> None:
    ran = run("agent", "list", "--url", f"{gateway.url}/nothing")
    assert ran.code == 1
    assert "not what a gateway answers" in ran.err
