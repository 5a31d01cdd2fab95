"""Settings of the gateway: `SWITCHBOARD_*` in the environment, else the default.

Every field is documented in its description; the README's table is made from them by `python -m gateway.settings`.
"""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_data_path
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SWITCHBOARD_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the gateway listens on.")
    public_url: str = Field("", description="Origin callers reach the gateway at; stands on cards. Default: host and port.")
    grpc_port: int = Field(0, ge=0, le=65535, description="Port for gRPC calls, on the same address. 0: no gRPC.")
    grpc_public_address: str = Field(
        "", description="`host:port` or URL callers reach gRPC at. Only when it is set, cards offer gRPC."
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("switchboard"),
        description="Where the database, the owner key and the sessions' journals are kept.",
    )
    database_url: str = Field(
        "", description="`sqlite:///PATH` or `postgresql://USER@HOST/NAME`. Default: SQLite in the data directory."
    )
    concurrency: int = Field(16, ge=1, le=1024, description="Turns that run at the same time in this process.")
    worker: bool = Field(True, description="Run turns in this process. Where it is off, others on the same database do.")
    lease_seconds: float = Field(
        6, ge=0.5, le=300, description="A turn whose worker was not heard of for so long is taken over by another."
    )
    drain_seconds: float = Field(
        5, ge=0, le=3600, description="How long running turns may go on when the gateway is asked to stop."
    )
    turn_attempts: int = Field(
        3,
        ge=1,
        le=20,
        description="How often a turn may begin: one whose runtime or worker dies goes on in another attempt. 1: it fails.",
    )
    turn_backoff_seconds: float = Field(
        1, ge=0, le=60, description="Pause before a turn whose runtime died goes on; doubled each time, to a minute."
    )
    turn_seconds: float = Field(3600, gt=0, description="A turn that takes longer ends as deadline_exceeded.")
    stall_seconds: float = Field(600, gt=0, description="A turn without any output for so long ends as deadline_exceeded.")
    warm_seconds: float = Field(
        0,
        ge=0,
        le=86400,
        description="How long a two-way runtime's process is kept after a turn, for its session's next message. 0: not at all.",
    )
    warm_processes: int = Field(8, ge=0, le=1024, description="How many a worker keeps so; the oldest goes first.")
    stop_seconds: float = Field(2, ge=0, description="How long a runtime may take to stop by itself before it is killed.")
    max_body_bytes: int = Field(16 * 2**20, ge=1024, description="Largest request body accepted.")
    max_header_bytes: int = Field(65536, ge=4096, description="Most a request's path and headers, 100 at most, may have.")
    max_prompt_chars: int = Field(1_000_000, ge=1, description="Longest text of one message.")
    max_file_bytes: int = Field(64 * 2**20, ge=1, description="Largest file taken from a caller, or given to one.")
    max_files: int = Field(100, ge=1, le=1000, description="Most files of one message, and most that one turn gives out.")
    max_files_bytes: int = Field(
        256 * 2**20, ge=1, description="Most bytes of all files of one message, and of all that one turn gives out."
    )
    inline_file_bytes: int = Field(
        256 * 1024, ge=0, le=2 * 2**20, description="Files up to this size stand in answers; larger ones are told by a URL."
    )
    file_url_seconds: float = Field(3600, ge=60, description="How long such a URL holds; up to a quarter longer.")
    fetch_seconds: float = Field(30, gt=0, description="How long fetching a file from a URL in a message may take.")
    queue_limit: int = Field(1000, ge=1, description="Turns that may wait; more are refused.")
    anonymous_listing: bool | None = Field(
        None,
        description="Callers who do not sign in may list tasks without naming a contextId, all their tasks being one "
        "another's. Default: only while the gateway listens on loopback.",
    )
    anonymous_requests_per_minute: int | None = Field(
        None,
        ge=0,
        description="Requests a minute from one address whose callers do not sign in; 0: any number. Default: 600, or any "
        "number while the gateway listens on loopback.",
    )
    oidc_requests_per_minute: int = Field(
        600, ge=0, description="Requests a minute of one caller with a token of the OpenID Connect issuer; 0: any number."
    )
    trusted_proxies: str = Field(
        "", description="Addresses and CIDRs, between commas, of proxies whose X-Forwarded-For tells who calls."
    )
    idempotency_hours: float = Field(
        24, gt=0, le=8760, description="How long a repeated Idempotency-Key answers the task it made first."
    )
    send_timeout: float = Field(30, gt=0, description="A client that reads nothing for so many seconds is cut off.")
    allow_private_hosts: str = Field(
        "",
        description="Hosts, addresses and CIDRs, between commas, that webhooks and files may be at though not public.",
    )
    egress_private_hosts: str = Field(
        "",
        description="Hosts, addresses and CIDRs, between commas, that an egress policy may name though not public.",
    )
    webhook_seconds: float = Field(15, gt=0, description="How long a webhook may take to answer.")
    webhook_attempts: int = Field(12, ge=1, description="Tries of one delivery; then it is dead, and an owner's business.")
    webhook_backoff_seconds: float = Field(5, gt=0, description="Pause after the first failed try; it doubles, to an hour.")
    webhook_concurrency: int = Field(64, ge=1, le=1024, description="Deliveries that are made at the same time.")
    retention_days: float = Field(
        0,
        ge=0,
        description="Events of sessions that closed so many days ago go from the database into the archive. 0: never.",
    )
    archive_dir: Path | None = Field(
        None, description="Where the archive is; one directory for all gateways. Default: `archive` in the data directory."
    )
    journals_dir: Path | None = Field(
        None,
        description="A directory all workers mount. At the end of each turn its session's journal is copied there, so that "
        "another machine can go on with it. Default: none.",
    )
    journals_url: str = Field(
        "",
        description="The same in an object store, such as `s3://bucket/journals` (needs the extra `s3`; keys, region and "
        "endpoint are those of the environment, `AWS_*`), or by any URL that fsspec knows.",
    )
    oidc_issuer: str = Field("", description="OpenID Connect issuer whose tokens callers may sign in with.")
    oidc_audience: str = Field("", description="Audience such a token must be for; needed with an issuer.")
    oidc_jwks_url: str = Field("", description="Where the issuer's keys are. Default: what its discovery document says.")
    agent_image: str = Field("switchboard-agent", description="Image that agents placed in `docker` run in.")
    sidecar_image: str = Field(
        "switchboard-gateway",
        description="Image of the small container beside an agent's that leads to the gateway; it needs `sh` and `python3`.",
    )
    engine_seconds: float = Field(
        60, ge=0, le=3600, description="How long a turn waits for a container engine that does not answer, before it fails."
    )
    container_network: str = Field(
        "bridge", description="Network of their containers: `bridge`, `none`, or the name of one the engine knows."
    )
    container_memory_mb: int = Field(4096, ge=64, description="Memory of one such container, its /tmp included.")
    container_pids: int = Field(1024, ge=16, description="Processes and threads of one such container.")
    container_cpus: float = Field(0, ge=0, description="Processors' time one such container may use; 0: all there is.")
    container_security_options: str = Field(
        "",
        description="Security options, between commas, that owners may give their agents' containers, such as `apparmor=NAME`.",
    )
    mount_roots: str = Field(
        "", description="Directories, between commas, below which owners may name mounts of their agents. Default: none."
    )
    hands_image: str = Field(
        "", description="Image the sandbox tools of custom runtimes act in. Default: that of `SWITCHBOARD_AGENT_IMAGE`."
    )
    hands_idle_seconds: float = Field(
        600, gt=0, description="Its container is stopped when its session has had no turn for so long; the next call starts it."
    )
    hands_keep_seconds: float = Field(86400, gt=0, description="And it is removed after so long.")
    client_token_seconds: float = Field(
        900, ge=1, le=86400, description="How long a client token holds; it can be exchanged for a fresh one."
    )
    client_token_renewable_seconds: float = Field(
        86400, ge=1, le=31_536_000, description="How long after the first one a client token can be exchanged."
    )
    cors_origins: str = Field(
        "", description="Origins, between commas, whose pages may use the session API from a browser. `*`: all."
    )
    default_agent: str = Field(
        "", description="Agent whose card stands at the root, /.well-known/agent-card.json. Default: none."
    )
    provider_organization: str = Field("", description="Provider on the cards of agents that name none of their own.")
    provider_url: str = Field(
        "", pattern=r"^(https?://[^\s@]+)?$", description="That provider's page. Default: the public URL."
    )
    retired_key_days: float = Field(
        30,
        ge=0,
        le=3650,
        description="How long the public half of a rotated card key stays published, so that old cards verify.",
    )
    conformance: bool = Field(
        False, description="Offer the runtime `conformance`, the agent that public conformance kits for A2A expect. Tests only."
    )
    log_json: bool | None = Field(None, description="Log as JSON lines. Default: only where stderr is no terminal.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @property
    def url(self) -> str:
        """The origin that stands on cards, without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def provider(self) -> dict[str, str] | None:
        organization = self.provider_organization
        return {"organization": organization, "url": self.provider_url or self.url} if organization else None

    @property
    def allowed_origins(self) -> list[str]:
        return [origin.rstrip("/") for origin in named(self.cors_origins)]

    @property
    def on_loopback(self) -> bool:
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def lists_anonymously(self) -> bool:
        return self.on_loopback if self.anonymous_listing is None else self.anonymous_listing

    @property
    def anonymous_rate(self) -> int | None:
        """Requests a minute from one address; None: any number."""
        default = 0 if self.on_loopback else 600
        return (default if self.anonymous_requests_per_minute is None else self.anonymous_requests_per_minute) or None

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'switchboard.db'}"

    @property
    def owner_key_file(self) -> Path:
        return self.data_dir / "owner.key"

    @property
    def secrets_key_file(self) -> Path:
        return self.data_dir / "secrets.key"

    @property
    def callers_key_file(self) -> Path:
        return self.data_dir / "callers.key"

    @property
    def tokens_key_file(self) -> Path:
        return self.data_dir / "tokens.key"

    @property
    def card_key_file(self) -> Path:
        return self.data_dir / "cards.key"

    @property
    def files_key_file(self) -> Path:
        return self.data_dir / "files.key"

    @property
    def turns_key_file(self) -> Path:
        return self.data_dir / "turns.key"

    @property
    def files_dir(self) -> Path:
        return self.data_dir / "files"

    @property
    def archive_files(self) -> Path:
        return self.archive_dir or self.data_dir / "archive"

    @property
    def volumes_dir(self) -> Path:
        return self.data_dir / "volumes"

    @property
    def sessions_dir(self) -> Path:
        return self.data_dir / "sessions"


def named(words: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in words.split(",") if word.strip()]


def table() -> str:
    """The settings as a Markdown table."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in (None, "") else field.default
        lines.append(f"| `SWITCHBOARD_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
