"""The way to the agent's own model provider: the gateway adds the key, so that the sandbox never holds it.

The runtime is given a base URL on the loopback of its sandbox and a placeholder for a key. What such a request carries
to say who asks is taken off, and the stored key is put on; it can go nowhere but below the provider's base URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from adapters.endpoints import Credential
from adapters.launch.sandbox import RELAY_PORT
from adapters.profile import Profile
from gateway.egress.messages import BadRequest, Headers, passed_on

PREFIX = "/-/model"
PLACEHOLDER = "placeholder"
_SECRETS = frozenset(b"authorization x-api-key x-goog-api-key api-key cookie".split())
_SECRET_PARAMETERS = frozenset({"key", "api_key", "api-key", "access_token"})
LOOPBACK = f"http://127.0.0.1:{RELAY_PORT}"


@dataclass(frozen=True, slots=True)
class Model:
    """A provider at `origin`, below `path`; `secret` is the header that says who asks."""

    origin: str
    path: str = ""
    secret: tuple[bytes, bytes] | None = None

    def url(self, target: str) -> str:
        """Where a request for `target` (its path begins with PREFIX) goes. Raises BadRequest."""
        path, _, query = target.removeprefix(PREFIX).partition("?")
        inside = path == self.path or path.startswith(f"{self.path}/")
        if not inside or ".." in unquote(unquote(path)).replace("\\", "/").split("/"):
            raise BadRequest("This is not below the model's base URL.")
        kept = "&".join(piece for piece in query.split("&") if piece and not _is_secret(piece))
        return f"{self.origin}{path}{'?' if kept else ''}{kept}"

    def headers(self, given: Iterable[tuple[bytes, bytes]]) -> Headers:
        """What the provider is told in place of what the request carried."""
        kept = [(name, value) for name, value in passed_on(given) if name not in _SECRETS]
        host = urlsplit(self.origin).netloc.encode("ascii")
        return [(b"host", host), *kept, *([self.secret] if self.secret else [])]


def _is_secret(piece: str) -> bool:
    return any(name.lower() in _SECRET_PARAMETERS for name, _ in parse_qsl(piece, keep_blank_values=True))


def provider_of(profile: Profile, provider: str | None) -> str | None:
    """Whose model the agent uses; where it names none, the runtime's only one."""
    return provider or (next(iter(profile.providers)) if len(profile.providers) == 1 else None)


def concealed(profile: Profile, provider: str | None, env: Mapping[str, str]) -> tuple[Model | None, dict[str, str]]:
    """The way to the agent's model, and the agent's variables without what is secret of any provider."""
    endpoint = profile.endpoints.get(provider or "")
    shown = {name: value for name, value in env.items() if name not in _secret_names(profile)}
    if endpoint is None:
        return None, shown
    base = urlsplit(env.get(endpoint.url_env) or endpoint.url)
    path, found = base.path.rstrip("/"), _credential(endpoint.credentials, env)
    shown[endpoint.url_env] = f"{LOOPBACK}{PREFIX}{path}"
    if found is not None:
        shown[found.env] = PLACEHOLDER
    return Model(f"{base.scheme}://{base.netloc}", path, _header(found, env) if found else None), shown


def _header(found: Credential, env: Mapping[str, str]) -> tuple[bytes, bytes]:
    return found.header.encode("ascii"), f"{found.prefix}{env[found.env].strip()}".encode("utf-8", "replace")


def _secret_names(profile: Profile) -> set[str]:
    names = set(profile.key_env.values())
    for endpoint in profile.endpoints.values():
        names |= {credential.env for credential in endpoint.credentials} | set(endpoint.withheld)
    return names


def _credential(credentials: Iterable[Credential], env: Mapping[str, str]) -> Credential | None:
    return next((credential for credential in credentials if env.get(credential.env)), None)
