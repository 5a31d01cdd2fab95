"""The four CLIs in sandboxes and in containers without a network: the same turns, their model by way of the gateway.

The gateway adds the key.
"""

from __future__ import annotations

import pytest

from tests import needs
from tests.e2e.legs import KEY, Leg
from tests.e2e.stage import Stage
from tests.e2e.test_invisible import lines

# The key is put together on its way into grep, so that the question is not what is found.
PLACES = '/proc/*/environ /proc/*/cmdline "$HOME" . /run /tmp'
LOOK = (
    f"printf '%s%s\\n' {KEY[:8]} {KEY[8:]} | grep -alrs -f - {PLACES} | wc -l; "
    "curl -sS -o answer -w '%{http_code}\\n' -x http://127.0.0.1:3128 http://denied.example/ && cat answer; "
    "curl -sS --noproxy '*' -m 5 http://192.0.2.1/ >direct 2>&1 || echo no way"
)


@pytest.fixture(params=["sandboxed", "docker"])
def inside(request: pytest.FixtureRequest, leg: Leg) -> str:
    """The agent's name."""
    if request.param == "sandboxed":
        needs.a_sandbox()
        return leg.gated
    needs.an_engine()
    needs.an_engine("gateway")
    return leg.walled


@pytest.mark.parametrize("scenario", ["SCN-text", "SCN-tool"])
async def test_a_way_through_the_gateway_shows_to_no_caller(stage: Stage, leg: Leg, inside: str, scenario: str) -> None:
    """[SBX-2] [BOX-3]"""
    outside = await stage.play(leg, scenario)
    async with stage.client() as client:
        played = await stage.say(client, inside, scenario)
    assert lines(played) == lines(outside)


async def test_a_tool_finds_no_key_and_reaches_no_host_that_is_not_named(stage: Stage, inside: str) -> None:
    """[EGR-1] [EGR-2] [EGR-4]"""
    marker = await stage.model.learn("SCN-look", {"tool": "shell", "command": LOOK})
    async with stage.client() as client:
        played = await stage.say(client, inside, marker)
        events = await client.events(played.context_id)
    [result] = [data["output"] for data in played.calls if data["type"] == "tool_result"]
    assert result.split("\n") == ["0", "403", "The host denied.example may not be reached from here.", "no way"]
    told = [event["body"]["text"] for event in events if event["body"].get("kind") == "egress_denied"]
    assert [text.split(" To allow")[0] for text in told if "denied.example" in text] == [
        "The agent was kept from denied.example:80. It is not on the agent's list."
    ]
    assert played.kinds[-1] == "completed"
