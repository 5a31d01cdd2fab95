"""How a container engine is reached, and what to do where it is not: the SDK's errors as ours.

DOCKER_HOST names it: a Unix socket, `tcp://` in the clear, which is for tunnels only, or under TLS with DOCKER_TLS_VERIFY and
the files of DOCKER_CERT_PATH, as every client of an engine has them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from errno import ECONNABORTED, ECONNREFUSED, EINVAL, ENOENT, ENOSPC, EPROTONOSUPPORT

import requests
from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, TLSParameterError
from docker.transport.unixconn import UnixHTTPConnection
from docker.utils import version_lt

from adapters.launch.warden import LaunchError

THREADS = 16  # calls to the engine at the same time
LONG = 4  # of those that take minutes, beside
CALL_SECONDS = 60
PROBE_SECONDS = 5
OLDEST = "1.41"  # of the API: Docker Engine 20.10
_TLS = ("SSLError", "SSLV3_", "TLSV1_", "TLSV13_")
_OTHER_DISK = ("bind source path does not exist", "invalid mount config", "not shared from the host")


class EngineGone(LaunchError):
    """It does not answer; it may again."""


def connect(environ: Mapping[str, str], timeout: float) -> DockerClient:
    """Raises LaunchError for an engine that is too old, else what the SDK does."""
    knock(environ, timeout)
    with closing(_client(environ, timeout, OLDEST)) as first:
        speaks = str(first.api.version(api_version=False)["ApiVersion"])
    if version_lt(speaks, OLDEST):
        raise _too_old(url_of(environ), f"API {speaks}")
    return _client(environ, timeout, speaks)


def _client(environ: Mapping[str, str], timeout: float, version: str) -> DockerClient:
    """Without a word to the engine."""
    client = DockerClient.from_env(environment=dict(environ), version=version, timeout=timeout, max_pool_size=THREADS + LONG)
    client.api.trust_env = False  # REQUESTS_CA_BUNDLE would stand above its certificates
    return client


def _connect(self: UnixHTTPConnection) -> None:
    """As the SDK does it, but without leaving a socket open that nobody answers."""
    tried = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        tried.settimeout(self.timeout)
        tried.connect(self.unix_socket)
    except BaseException:
        tried.close()
        raise
    self.sock = tried


UnixHTTPConnection.connect = _connect


def knock(environ: Mapping[str, str], timeout: float) -> None:
    """Raises OSError where nobody answers."""
    path = url_of(environ).removeprefix("unix://")
    if path.startswith("/"):
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(timeout)
            tried.connect(path)


def url_of(environ: Mapping[str, str]) -> str:
    return environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


@contextmanager
def explained(url: str, image: str = "", named_by: str = "") -> Iterator[None]:
    """Errors of the SDK as ours, which say what to do. `named_by`: the setting that names the image that is to run."""
    try:
        yield
    except ImageNotFound as exc:
        mend = f"Build it (switchboard runtimes build, or make images), pull it, or choose another: {named_by}."
        raise LaunchError(ENOENT, f"The image {image!r} is not on the container engine at {url}. {mend}", "command") from exc
    except APIError as exc:
        raise _refused(url, str(exc.explanation or exc)) from exc
    except (DockerException, requests.RequestException, OSError) as exc:
        if _is_of_trust(exc):
            mend = "Look at DOCKER_CERT_PATH (ca.pem, cert.pem, key.pem), and at the names in the engine's certificate."
            said = f"The container engine at {url} and the gateway do not trust each other: {exc}. {mend}"
            raise EngineGone(ECONNABORTED, said) from exc
        mend = "Start it, or set DOCKER_HOST where the gateway runs; then send the message again."
        raise EngineGone(ECONNREFUSED, f"The container engine at {url} does not answer: {exc}. {mend}") from exc


def _is_of_trust(exc: BaseException) -> bool:
    """Whether it is TLS that failed; the SDK tells some of it in words only."""
    return isinstance(exc, (ssl.SSLError, TLSParameterError)) or any(sign in str(exc) for sign in _TLS)


def _too_old(url: str, speaks: str) -> LaunchError:
    said = f"The container engine at {url} is too old ({speaks}): API {OLDEST} is needed, of Docker Engine 20.10."
    return LaunchError(EPROTONOSUPPORT, f"{said} Upgrade it, or set DOCKER_HOST to another one.")


def _refused(url: str, why: str) -> LaunchError:
    if any(sign in why for sign in _OTHER_DISK):
        mend = "The gateway's data directory must be there under the same path, on a shared disk if it is another machine."
        return LaunchError(
            EINVAL, f"The container engine at {url} does not see the session's directories: {why}. {mend}", "cwd"
        )
    if "HTTP request to an HTTPS server" in why:
        mend = "Set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem."
        return LaunchError(EPROTONOSUPPORT, f"The container engine at {url} speaks TLS only. {mend}")
    if "no space left on device" in why:
        return LaunchError(
            ENOSPC, f"The container engine at {url} has no disk left: {why}. Free some there (docker system df)."
        )
    return LaunchError(EINVAL, f"The container engine at {url} refused: {why}")
