"""An agent's public face: its card, its line in the directory, its links in the catalogue.

Nothing here knows the runtime or the model. A card holds no empty value, so that every reader arrives at the same
canonical form of it (see signing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from a2a.server.request_handlers.response_helpers import agent_card_to_dict
from a2a.types import a2a_pb2 as pb
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]  # has no stubs

from gateway.a2a.extension import TOOL_EVENTS

Json = dict[str, Any]
TEXT_MODES = ["text/plain", "application/json"]


@dataclass(frozen=True, slots=True)
class Face:
    """What callers may know of an agent, and the version a new session pins (which they may not)."""

    agent_id: str
    name: str
    version: int
    description: str
    skills: tuple[Json, ...]
    public: bool
    edition: int  # version of the public face alone: a change of the runtime does not show
    updated_at: int  # of the public face; microseconds since the epoch
    provider: Json | None = None
    documentation_url: str | None = None
    icon_url: str | None = None
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    extended: Json | None = None  # {description, skills} for callers who signed in


def card(
    face: Face,
    origin: str,
    grpc_address: str = "",
    *,
    provider: Json | None = None,
    security: Json | None = None,
    extended: bool = False,
) -> Json:
    """The A2A agent card (spec v1.0, section 4.4), unsigned.

    `provider` stands on the cards of agents that have none of their own; `security` holds securitySchemes and
    securityRequirements; `extended`: whether signed-in callers can get more.
    """
    extension = {
        "uri": TOOL_EVENTS,
        "description": "Working statuses carry a data part with the tool call or its result.",
    }
    made = {
        "name": face.name,
        "description": face.description or f"The agent {face.name}.",
        "version": str(face.edition),
        "supportedInterfaces": interfaces(face.name, origin, grpc_address),
        "provider": face.provider or provider,
        "documentationUrl": face.documentation_url,
        "iconUrl": face.icon_url,
        "capabilities": {
            "streaming": True,
            "pushNotifications": True,
            "extensions": [extension],
            "extendedAgentCard": extended,
        },
        **(security or {}),
        "defaultInputModes": input_modes(face),
        "defaultOutputModes": list(face.output_modes) or TEXT_MODES,
        "skills": skills(face),
    }
    return _filled(made)


def input_modes(face: Face) -> list[str]:
    """Media types the agent takes; what its card says, its calls keep to."""
    return list(face.input_modes) or TEXT_MODES


def interfaces(name: str, origin: str, grpc_address: str = "") -> list[Json]:
    """All ways to call an agent, the best first. 0.3 has no tenants, so its gRPC cannot name an agent and is not listed."""
    url = agent_url(name, origin)
    found: list[Json] = [_interface(url, binding, "1.0") for binding in ("JSONRPC", "HTTP+JSON")]
    if grpc_address:
        found.append({**_interface(grpc_address, "GRPC", "1.0"), "tenant": name})
    return found + [_interface(url, binding, "0.3") for binding in ("JSONRPC", "HTTP+JSON")]


def _interface(url: str, binding: str, version: str) -> Json:
    return {"url": url, "protocolBinding": binding, "protocolVersion": version}


def readable_by_03(card: Json) -> Json:
    """The card with the fields 0.3 clients look for beside its own: url, preferredTransport, additionalInterfaces ..."""
    both: Json = agent_card_to_dict(ParseDict(card, pb.AgentCard()))
    more = {name: value for name, value in both.items() if name not in card or name == "securitySchemes"}
    return {**card, **more}


def skills(face: Face) -> list[Json]:
    """The skills as the card shows them; an agent without any can be talked to. The agent's tags stand on each."""
    chat = {"id": "chat", "name": "Chat", "description": f"Talk to {face.name} and have it work.", "tags": ["chat"]}
    return [_skill(skill, face.tags) for skill in face.skills or (chat,)]


def _skill(skill: Json, tags: tuple[str, ...]) -> Json:
    mine = list(dict.fromkeys([*skill.get("tags", ()), *tags])) or [skill["id"]]  # a skill must have some
    description = skill.get("description") or skill["name"]
    examples = [example for example in skill.get("examples", ()) if example]
    return _filled({"id": skill["id"], "name": skill["name"], "description": description, "tags": mine, "examples": examples})


def _filled(values: Json) -> Json:
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}


def agent_url(name: str, origin: str) -> str:
    return f"{origin}/agents/{name}"


def card_url(name: str, origin: str) -> str:
    return f"{agent_url(name, origin)}/.well-known/agent-card.json"


def directory_entry(face: Face, origin: str) -> Json:
    shown = skills(face)
    return {
        "name": face.name,
        "description": face.description,
        "url": agent_url(face.name, origin),
        "cardUrl": card_url(face.name, origin),
        "skills": [skill["name"] for skill in shown],
        "tags": list(dict.fromkeys(tag for skill in shown for tag in skill["tags"])),
    }


def catalog_entry(face: Face, origin: str) -> Json:
    """An agent's links (RFC 9727, RFC 9264)."""
    entry: Json = {"anchor": agent_url(face.name, origin)}
    entry["service-desc"] = [{"href": card_url(face.name, origin), "type": "application/json"}]
    if face.documentation_url:
        entry["service-doc"] = [{"href": face.documentation_url}]
    return entry
