"""One POST: it goes to the vetted address under the name of the URL, and nothing of the environment bends its way."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

from gateway.deliver.guard import Guard
from gateway.deliver.sender import Failed, Sender, signature
from tests.gateway.deliver.receivers import Receiver, receiving, trusting

NAME = "hooks.example.com"


def certificate(directory: Path, host: str = NAME) -> tuple[str, str]:
    """Files with a certificate for that host, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "cert.pem").write_bytes(made.public_bytes(pem))
    (directory / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    return str(directory / "cert.pem"), str(directory / "key.pem")


class Loopback:
    """A resolver that finds every name on this machine, and counts."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.asked = addresses or ("127.0.0.1",), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.addresses


async def test_the_vetted_address_is_dialled_under_the_name_of_the_url(tmp_path: Path) -> None:
    """[PUSH-4]"""
    cert, key = certificate(tmp_path)
    names = Loopback()
    sender = Sender(Guard.allowing("127.0.0.0/8", names), 10, trusting(cert))
    with receiving(ssl_certfile=cert, ssl_keyfile=key) as receiver:
        port = receiver.url.rpartition(":")[2]
        await sender.post(f"https://{NAME}:{port}/ok?a=b", {"X-Test": "1"}, b"{}")
        (got,) = receiver.got
        assert (got.headers["host"], got.headers["x-test"], got.body, names.asked) == (f"{NAME}:{port}", "1", b"{}", 1)
        with pytest.raises(Failed, match="certificate verify failed"):
            await sender.post(f"https://other.example.com:{port}/ok", {}, b"{}")
        with pytest.raises(Failed, match="certificate verify failed"):
            await Sender(Guard.allowing("127.0.0.0/8", names), 10).post(f"https://{NAME}:{port}/ok", {}, b"{}")
        assert len(receiver.got) == 1


async def test_the_next_address_of_a_host_is_tried(receiver: Receiver) -> None:
    sender = Sender(Guard.allowing("127.0.0.0/8", Loopback("127.0.0.2", "127.0.0.1")), 10)
    await sender.post(receiver.url.replace("127.0.0.1", "two.test") + "/ok", {}, b"{}")
    assert len(receiver.got) == 1


async def test_what_has_become_private_since_is_not_sent(receiver: Receiver) -> None:
    """[PUSH-4]"""
    with pytest.raises(Failed, match="which is loopback"):
        await Sender(Guard(resolve=Loopback()), 10).post(
            receiver.url.replace("127.0.0.1", "was-public.test") + "/ok", {}, b"{}"
        )
    assert receiver.got == []


async def test_a_proxy_of_the_environment_is_not_obeyed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await Sender(Guard.allowing("127.0.0.1"), 10).post(f"{receiver.url}/ok", {}, b"{}")
    assert len(receiver.got) == 1


@pytest.mark.parametrize("token", ["", "plain", "whsec_", "whsec_\N{BULLET}", "whsec_a"])
def test_a_token_that_is_no_webhook_secret_signs_nothing(token: str) -> None:
    assert signature([token], "dlv_1", 1, b"{}") is None


def test_a_signature_is_the_one_receivers_reckon() -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode().rstrip("=")
    at = datetime.now(UTC)
    expected = Webhook(secret).sign("dlv_1", at, '{"a":"ä"}')
    assert signature([secret], "dlv_1", int(at.timestamp()), '{"a":"ä"}'.encode()) == expected
