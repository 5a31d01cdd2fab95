"""The model through the gateway: the key is put on outside, and nothing of it is to be found inside. [EGR-2]"""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.profile import Profile
from adapters.registration import profiles
from gateway.egress.messages import BadRequest
from gateway.egress.model import Model, concealed
from tests.gateway.deliver.receivers import Receiver, receiving, trusting
from tests.gateway.deliver.test_sender import certificate
from tests.gateway.egress.boxes import boxed

KEY = "the-real-key-7f3a"
ASK = """POST {path} HTTP/1.1
Host: 127.0.0.1:3128
Authorization: Bearer mine
X-Api-Key: mine
X-Goog-Api-Key: mine
Proxy-Authorization: mine
X-Mine: kept
Content-Length: 2

{{}}"""
FIND = """
found = []
for folder in (os.environ["HOME"], os.getcwd(), "/run", "/tmp", "/etc"):
    found += [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
for pid in filter(str.isdigit, os.listdir("/proc")):
    found += [f"/proc/{pid}/{name}" for name in ("environ", "cmdline")]
def holds(path):
    try:
        return os.path.isfile(path) and b"the-real-" + b"key" in open(path, "rb").read()
    except OSError:
        return False
print(len(found) > 8, [path for path in found if holds(path)])
"""


@pytest.mark.parametrize(
    ("runtime", "provider", "named", "header", "value"),
    [
        ("claude", None, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": f"{KEY}2"}, "x-api-key", KEY),
        ("claude", "anthropic", {"ANTHROPIC_AUTH_TOKEN": KEY}, "authorization", f"Bearer {KEY}"),
        ("codex", None, {"OPENAI_API_KEY": KEY}, "authorization", f"Bearer {KEY}"),
        ("gemini", "google", {"GEMINI_API_KEY": KEY}, "x-goog-api-key", KEY),
        (
            "opencode",
            "openai-compatible",
            {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": f"{KEY}2"},
            "authorization",
            f"Bearer {KEY}",
        ),
    ],
    ids=["key", "token", "bearer", "google", "own provider"],
)
async def test_the_key_is_put_on_outside_and_not_to_be_found_inside(
    tmp_path: Path, receiver: Receiver, runtime: str, provider: str | None, named: dict[str, str], header: str, value: str
) -> None:
    profile = profiles()[runtime]
    endpoint = profile.endpoints[provider or next(iter(profile.providers))]
    env = {**named, endpoint.url_env: receiver.url}
    async with boxed(tmp_path, profile=profile, provider=provider, env=env, private="") as box:
        asked = ASK.format(path=box.gate.env[endpoint.url_env].removeprefix("http://127.0.0.1:3128") + "/ok?a=b&key=mine")
        assert await box.run("status(sys.argv[1])" + FIND, asked) == ["HTTP/1.1 204 No Content", "True []"]
    (got,) = receiver.got
    host = receiver.url.removeprefix("http://")
    assert got.headers == {"host": host, "x-mine": "kept", "content-length": "2", header: value}
    assert (got.path, got.body) == ("/ok", b"{}")


async def test_a_provider_is_reached_over_tls_under_its_own_name(tmp_path: Path) -> None:
    """Neither a certificate nobody vouches for nor one for another name is taken; the key is not sent then."""
    cert, key = certificate(tmp_path, "localhost")
    printed: list[str] = []
    with receiving(ssl_certfile=cert, ssl_keyfile=key) as receiver:
        named = receiver.url.replace("127.0.0.1", "localhost")
        for url, tls in ((named, {}), (receiver.url, {"tls": trusting(cert)}), (named, {"tls": trusting(cert)})):
            env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
            async with boxed(tmp_path / str(len(printed)), profile=profiles()["claude"], env=env, **tls) as box:
                printed += await box.run("status(sys.argv[1])", ASK.format(path="/-/model/ok"))
    assert [line.split()[1] for line in printed] == ["502", "502", "204"]
    assert [got.headers["x-api-key"] for got in receiver.got] == [KEY]


async def test_an_answer_streams(tmp_path: Path, receiver: Receiver) -> None:
    """What the provider has said is there before it has said all: this answer never ends."""
    script = """
with socket.create_connection(("127.0.0.1", 3128), 20) as connection:
    connection.sendall(sys.argv[1].replace("\\n", "\\r\\n").encode())
    print(sum(len(connection.recv(65536)) for _ in range(50)) > 50)
"""
    env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": receiver.url}
    async with boxed(tmp_path, profile=profiles()["claude"], env=env) as box:
        assert await box.run(script, ASK.format(path="/-/model/endless")) == ["True"]


def claude(env: dict[str, str]) -> tuple[Model | None, dict[str, str]]:
    return concealed(profiles()["claude"], "anthropic", env)


def test_every_runtime_with_providers_says_how_they_are_reached() -> None:
    with_providers = [profile for profile in profiles().values() if profile.providers]
    assert [profile.name for profile in with_providers if set(profile.endpoints) != profile.providers] == []
    assert [name for profile in with_providers for name in wrong(profile)] == []


def wrong(profile: Profile) -> list[str]:
    """Providers whose key is none of the credentials, or whose base URL does not reach the child."""
    return [
        f"{profile.name} {provider}"
        for provider, endpoint in profile.endpoints.items()
        if profile.key_env[provider] not in [credential.env for credential in endpoint.credentials]
        or endpoint.url_env not in profile.env_names
    ]


def test_the_base_url_keeps_its_path_and_what_only_the_runtime_could_use_is_withheld() -> None:
    env = {"ANTHROPIC_BASE_URL": "https://llm.example.com/team-a/", "CLAUDE_CODE_OAUTH_TOKEN": KEY, "MINE": "x"}
    model, shown = claude(env)
    assert model == Model("https://llm.example.com", "/team-a", None)
    assert shown == {"ANTHROPIC_BASE_URL": "http://127.0.0.1:3128/-/model/team-a", "MINE": "x"}


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/-/model/team-a/v1/messages?beta=true", "https://llm.example.com/team-a/v1/messages?beta=true"),
        ("/-/model/team-a?KEY=x&a=%26key%3D1&k%65y=y", "https://llm.example.com/team-a?a=%26key%3D1"),
        ("/-/model/team-b/v1", None),
        ("/-/model/team-ab", None),
        ("/-/model/team-a/../team-b", None),
        ("/-/model/team-a/%2e%2E/team-b", None),
        ("/-/model/team-a/%252e%252e/team-b", None),
        ("/-/model/team-a/..\\team-b", None),
        ("/-/model//evil.example/team-a", None),
    ],
)
def test_a_request_to_the_model_stays_below_its_base_url(target: str, url: str | None) -> None:
    model = Model("https://llm.example.com", "/team-a")
    if url is None:
        with pytest.raises(BadRequest):
            model.url(target)
    else:
        assert model.url(target) == url
