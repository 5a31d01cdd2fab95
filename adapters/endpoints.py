"""Model providers as a gateway in between has to know them: where they are, and by what a request says who asks.

An agent without a network reaches its provider through the gateway, which adds the key (specs/egress.md). A runtime's
profile says which of these it speaks to, and by which variables it is told.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Credential:
    """A variable with a secret, and the header that carries it to the provider."""

    env: str
    header: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url_env` names the variable with the base URL; of `credentials` the first one set counts."""

    url_env: str
    url: str
    credentials: tuple[Credential, ...]
    withheld: tuple[str, ...] = ()  # variables with secrets that only the runtime itself could use


ANTHROPIC = Endpoint(
    "ANTHROPIC_BASE_URL",
    "https://api.anthropic.com",
    (Credential("ANTHROPIC_API_KEY", "x-api-key"), Credential("ANTHROPIC_AUTH_TOKEN", "authorization", "Bearer ")),
    withheld=("CLAUDE_CODE_OAUTH_TOKEN",),
)
OPENAI = Endpoint("OPENAI_BASE_URL", "https://api.openai.com/v1", (Credential("OPENAI_API_KEY", "authorization", "Bearer "),))
GOOGLE = Endpoint(
    "GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com", (Credential("GEMINI_API_KEY", "x-goog-api-key"),)
)
