"""An agent's public face: its card and its line in the directory. Nothing here knows the runtime or the model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

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


def card(face: Face, origin: str) -> Json:
    """The A2A agent card (spec v1.0, section 4.4)."""
    extension = {
        "uri": TOOL_EVENTS,
        "description": "Working statuses carry a data part with the tool call or its result.",
        "required": False,
    }
    return {
        "name": face.name,
        "description": face.description or f"The agent {face.name}.",
        "version": str(face.edition),
        "supportedInterfaces": [{"url": agent_url(face.name, origin), "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {"streaming": True, "pushNotifications": True, "extensions": [extension], "extendedAgentCard": False},
        "defaultInputModes": TEXT_MODES,
        "defaultOutputModes": TEXT_MODES,
        "skills": [skill_json(skill) for skill in face.skills] or [_default_skill(face)],
    }


def skill_json(skill: Json) -> Json:
    keys = ("id", "name", "description", "tags", "examples", "inputModes", "outputModes")
    return {key: skill[key] for key in keys if key in skill}


def _default_skill(face: Face) -> Json:
    return {"id": "chat", "name": "Chat", "description": f"Talk to {face.name} and have it work.", "tags": ["chat"]}


def agent_url(name: str, origin: str) -> str:
    return f"{origin}/agents/{name}"


def card_url(name: str, origin: str) -> str:
    return f"{agent_url(name, origin)}/.well-known/agent-card.json"


def directory_entry(face: Face, origin: str) -> Json:
    return {
        "name": face.name,
        "description": face.description,
        "url": agent_url(face.name, origin),
        "cardUrl": card_url(face.name, origin),
        "skills": [skill["name"] for skill in face.skills if "name" in skill],
    }


def cached(body: Json, updated_at: int) -> tuple[bytes, dict[str, str]]:
    """A document's bytes with ETag, Last-Modified and Cache-Control."""
    data = json.dumps(body, ensure_ascii=False).encode()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    modified = formatdate(updated_at / 1e6, usegmt=True)
    return data, {"ETag": etag, "Last-Modified": modified, "Cache-Control": "public, max-age=60"}
