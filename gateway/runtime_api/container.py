"""The container an image runs in, and what it finds there: specs/runtime-contract.md, "The container" and "Environment"."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.launch.container import Box
from adapters.launch.home import Bind
from adapters.launch.sandbox import RELAY_PORT
from adapters.profile import Profile
from gateway.runtime_api.brain import Brain
from gateway.runtime_api.shapes import VERSION

API_PORT = RELAY_PORT + 1
JOURNAL = "/journal"


def box_of(brain: Brain, token: str, image: str, env: Mapping[str, str], labels: Mapping[str, str], user: str) -> Box:
    """Without its network; `env` is what is no secret of the agent's."""
    work = brain.work
    contract = {
        "CONTRACT_VERSION": str(VERSION),
        "SESSION_ID": work.turn.session_id,
        "TASK_ID": work.turn.task_id,
        "TURN_ID": work.turn.id,
        "ATTEMPT": str(work.turn.attempt),
        "TURN_TOKEN": token,
        "READ_CURSOR": str(brain.read_cursor),
        "RUNTIME_API_URL": f"http://127.0.0.1:{API_PORT}",
        "JOURNAL_DIR": JOURNAL,
        "HOME": JOURNAL,
        "DEADLINE_MS": str(work.deadline_ms),
    }
    return Box(
        image=image,
        argv=(),
        env={**env, **contract},
        cwd="",
        mounts=(),
        binds=[Bind(str(work.place.home), JOURNAL, writable=True)],
        labels=labels,
        user=user,
        own_entry=True,
        named_by="the runtime's version",
    )


def parted(env: Mapping[str, str], own: Mapping[str, str], profile: Profile) -> tuple[dict[str, str], dict[str, str]]:
    """(what may stand in the environment, the agent's `own` variables, which the image is told by the API).

    Of the agent's own those that lead to its model stay: by now they lead to the gateway's proxy.
    """
    ways = {name for way in profile.endpoints.values() for name in (way.url_env, *(one.env for one in way.credentials))}
    told = {name: env[name] for name in own if name in env and name not in ways}
    return {name: value for name, value in env.items() if name not in told}, told
