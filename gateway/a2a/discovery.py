"""How callers find agents: the directory, the cards, the keys that sign them, and the catalogue of RFC 9727.

Anybody is told of public agents; of restricted ones, in the directory, only those who sign in and may call them. Their
cards can be read by whoever knows the name: a card says how to sign in.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.a2a.cards import Face, Json, agent_url, catalog_entry, directory_entry, skills
from gateway.a2a.documents import Document, answer
from gateway.a2a.published import Cards
from gateway.a2a.security import refusal_headers
from gateway.auth.callers import ANONYMOUS, Callers, Principal, may_call
from gateway.errors import InvalidParams, NotAllowed, NotFound, SwitchboardError

PAGE, MAX_PAGE = 50, 100
BATCH = 500  # agents looked at together by a search
MAX_QUERY = 200  # characters
CATALOG = "/.well-known/api-catalog"
VARY = {"Vary": "Authorization, X-API-Key"}
LINKSET = 'application/linkset+json; profile="https://www.rfc-editor.org/info/rfc9727"'


class Directory(Protocol):
    async def face(self, name: str) -> Face | None: ...

    async def faces(self, after: str, limit: int) -> list[Face]:
        """Agents whose names come after `after`, by name; private ones too."""
        ...


def routes(cards: Cards, directory: Directory, callers: Callers) -> list[Route]:
    found = Discovery(cards, directory, callers)
    return [
        Route("/agents", found.directory_page, methods=["GET"]),
        Route("/agents/{name}/.well-known/agent-card.json", found.card, methods=["GET"]),
        Route("/.well-known/agent-card.json", found.default_card, methods=["GET"]),
        Route("/.well-known/jwks.json", found.jwks, methods=["GET"]),
        Route(CATALOG, found.catalog, methods=["GET"]),
    ]


class Discovery:
    def __init__(self, cards: Cards, directory: Directory, callers: Callers) -> None:
        self.cards, self.directory, self.callers = cards, directory, callers
        self.origin = cards.settings.url

    async def directory_page(self, request: Request) -> Response:
        try:
            principal = await self.callers.authenticate(request.headers)
            query = parse(request)
        except (InvalidParams, NotAllowed) as exc:
            return _refused(exc)
        faces, token = await self._page(query, principal)
        agents = [directory_entry(face, self.origin) for face in faces]
        more = VARY if principal.anonymous else VARY | {"Cache-Control": "private, no-cache"}
        return answer(request, Document.of({"agents": agents, "nextPageToken": token}, more=more))

    async def card(self, request: Request) -> Response:
        return await self._card(request, request.path_params["name"])

    async def default_card(self, request: Request) -> Response:
        return await self._card(request, self.cards.settings.default_agent)

    async def jwks(self, request: Request) -> Response:
        return answer(request, self.cards.jwks())

    async def catalog(self, request: Request) -> Response:
        faces = [face async for face in self._all("", BATCH, ANONYMOUS)]
        items = [{"href": agent_url(face.name, self.origin)} for face in faces]
        top: Json = {"anchor": f"{self.origin}{CATALOG}", "item": items}
        linkset = [top, *(catalog_entry(face, self.origin) for face in faces)]
        link = {"Link": f'<{self.origin}{CATALOG}>; rel="api-catalog"'}
        return answer(request, Document.of({"linkset": linkset}, LINKSET, more=link))

    async def _card(self, request: Request, name: str) -> Response:
        face = await self.directory.face(name) if name else None
        if face is None:
            said = f"Agent {name[:80]!r} was not found." if name else "There is no agent at the root."
            return _refused(NotFound(said, f"The agents there are: {self.origin}/agents"))
        return answer(request, self.cards.document(face))

    async def _page(self, query: Query, principal: Principal) -> tuple[list[Face], str]:
        """The page's agents, and the next page's token or ""."""
        page: list[Face] = []
        async for face in self._all(query.after, BATCH if query.words or query.tags else query.size + 1, principal):
            if not query.finds(face):
                continue
            if len(page) == query.size:
                return page, _token(page[-1].name)
            page.append(face)
        return page, ""

    async def _all(self, after: str, batch: int, principal: Principal) -> AsyncIterator[Face]:
        """Agents the principal may call, by name. A name never changes, so none comes twice and none that stays is missed."""
        while faces := await self.directory.faces(after, batch):
            for face in faces:
                if may_call(principal, face):
                    yield face
            if len(faces) < batch:
                return
            after = faces[-1].name


@dataclass(frozen=True, slots=True)
class Query:
    words: tuple[str, ...]
    tags: frozenset[str]
    size: int
    after: str

    def finds(self, face: Face) -> bool:
        """Every word stands somewhere on the card, and it has every tag."""
        offered = skills(face)
        tags = {_fold(tag) for skill in offered for tag in skill["tags"]}
        texts = [face.name, face.description, *tags]
        texts += [skill[name] for skill in offered for name in ("id", "name", "description")]
        text = _fold("\n".join(texts))
        return self.tags <= tags and all(word in text for word in self.words)


def parse(request: Request) -> Query:
    """Raises InvalidParams."""
    given = request.query_params
    words, tags = given.get("q", ""), given.getlist("tag")
    if len(words) + sum(map(len, tags)) > MAX_QUERY:
        raise InvalidParams(f"The search is longer than {MAX_QUERY} characters.", "Search for less.")
    wanted = frozenset(_fold(tag) for tag in tags if tag)
    return Query(tuple(_fold(words).split()), wanted, _size(given.get("pageSize", "")), _after(given.get("pageToken", "")))


def _size(text: str) -> int:
    if not text:
        return PAGE
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= MAX_PAGE):
        raise InvalidParams(
            f"pageSize {text[:80]!r} is no number from 1 to {MAX_PAGE}.", "Leave it out, or give such a number."
        )
    return int(text)


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _after(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as exc:
        raise InvalidParams(f"pageToken {token[:80]!r} is not one this directory gave out.", "Begin without one.") from exc


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _refused(error: SwitchboardError) -> Response:
    return JSONResponse(error.to_json(), error.codes.http, refusal_headers(error) | {"Cache-Control": "no-cache"})
