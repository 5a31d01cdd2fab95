"""An OpenID Connect issuer on loopback, with keys that can be changed while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support import free_port

Json = dict[str, Any]
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


def public_jwk(key: Any, kid: str | None, **more: Any) -> Json:
    algorithm = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    made: Json = json.loads(algorithm.to_jwk(key.public_key()))
    made.pop("key_ops", None)
    return made | ({} if kid is None else {"kid": kid}) | more


@dataclass
class Issuer:
    url: str
    keys: list[Json] = field(default_factory=lambda: [public_jwk(RSA, "r1"), public_jwk(EC, "e1", use="sig", alg="ES256")])
    asked: list[str] = field(default_factory=list)
    broken: int | None = None  # answers this status
    told: Json = field(default_factory=dict)  # over what the discovery document says

    async def discovery(self, request: Request) -> Response:
        self.asked.append("discovery")
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.told)

    async def jwks(self, request: Request) -> Response:
        self.asked.append("keys")
        return Response(status_code=self.broken) if self.broken else JSONResponse({"keys": self.keys})

    def claims(self, **more: Any) -> Json:
        now = int(time.time())
        made = {"iss": self.url, "aud": "agents", "sub": "ann", "iat": now, "exp": now + 300} | more
        return {name: value for name, value in made.items() if value is not None}

    def token(self, key: Any = RSA, alg: str = "RS256", kid: str | None = "r1", **claims: Any) -> str:
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**claims), key, alg, headers)


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    port = free_port()
    issuer = Issuer(f"http://127.0.0.1:{port}")
    routes = [Route("/.well-known/openid-configuration", issuer.discovery), Route("/keys", issuer.jwks)]
    config = uvicorn.Config(
        Starlette(routes=routes), port=port, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as group:
        group.start_soon(server._serve)
        with anyio.fail_after(20):
            while not server.started:  # noqa: ASYNC110  (uvicorn has no event for it)
                await anyio.sleep(0.01)
        try:
            yield issuer
        finally:
            server.should_exit = True
