"""What judges of scenes find, and the words they find it in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gateway.conformance.model import NO_TOOL
from gateway.conformance.stage import Played
from gateway.conformance.watch import Call, Left
from gateway.runtime_api.mcp import CALL_ID

Json = dict[str, Any]
Verdict = Literal["passed", "failed", "not shown"]

KILLED = 137  # the exit code of what was ended by KILL
NO_MODEL = "it declares no model provider the kit can play"
FEW = 3  # requests an image may have under way when it is told to stop


class Found(NamedTuple):
    """`required`: whether a failure is one; else it is advice."""

    verdict: Verdict
    evidence: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """All that was played, by scene; `steers`: whether the image says that it takes a steer."""

    played: Mapping[str, Played]
    steers: bool

    def __getitem__(self, name: str) -> Played:
        return self.played[name]


def passed(evidence: str) -> Found:
    return Found("passed", evidence)


def failed(evidence: str) -> Found:
    return Found("failed", evidence)


def not_shown(evidence: str) -> Found:
    return Found("not shown", evidence)


# -- words


def calls(shown: Shown) -> Iterator[Call]:
    return (call for scene in shown.played.values() for call in scene.seen.calls)


def first(scene: Played) -> Left | None:
    return scene.seen.left[0] if scene.seen.left else None


def attempts(scene: Played) -> int:
    return max((call.attempt for call in scene.seen.calls), default=0)


def no_second(scene: Played) -> Found | None:
    """What is wrong where it was killed and did not come to its end in another attempt."""
    if not scene.seen.left:
        return not_shown(f"it came to no point to kill it at: {scene.error}")
    if scene.outcome != "completed":
        return failed(f"killed, its turn ended as {scene.outcome or 'nothing'} in attempt {attempts(scene)}: {scene.error}")
    return None if attempts(scene) > 1 else not_shown("it told all it had to tell at once")


def ended_before(scene: Played, wanted: str, what: str) -> Found | None:
    """What stands in the way of a judgement where its turn ended otherwise than it was made to."""
    if scene.outcome == wanted:
        return None
    return not_shown(f"the turn ended as {scene.outcome or 'nothing'} before {what}: {scene.error}")


def ran_again(scene: Played) -> Found | None:
    """What is wrong where the sandbox did the same more than once. Calls by MCP may go without an id of the image's own."""
    command, times = Counter(scene.seen.effects.values()).most_common(1)[0]
    if times == 1:
        return None
    if not all(call.named for call in scene.seen.calls if call.acts):
        said = f"{CALL_ID} in its _meta, so each was a call of its own"
        return Found("failed", f"the command ran {times} times: not every call by MCP had a {said}", required=False)
    ids = sorted(id for id, one in scene.seen.effects.items() if one == command)
    return failed(f"the command ran {times} times, under the call_ids {', '.join(ids)}")


def told_once(scene: Played) -> str:
    """What its first attempt told."""
    return "".join(str(event.get("text", "")) for call in scene.seen.posts if call.attempt == 1 for event in call.events)


def told_of(scene: Played, what: str) -> bool:
    said = [call.said for call in scene.seen.calls if isinstance(call.said, dict)]
    return any(one.get("type") == what for answer in said for one in answer.get("control") or ())


def toolless(scene: Played) -> Found:
    if not scene.asked:
        return not_shown(NO_MODEL)
    offered = sorted({tool for one in scene.asked for tool in one.tools})
    if NO_TOOL in scene.text or not offered:
        return not_shown(f"it offers its model no tool for this, of {', '.join(offered) or 'none at all'}")
    return failed(f"its model used its tool, and nothing came of it: {scene.error or scene.outcome}")


def is_refused(call: Call) -> bool:
    """Of MCP only calls: its clients ask for what a server may not have, such as a stream."""
    wrong = call.status in (400, 401, 404, 405, 413, 422) and not call.injected
    return wrong and (call.path != "/mcp" or call.acts)


def is_end(call: Call) -> bool:
    return any(event.get("type") in ("done", "message") for event in call.events)


def repeats(call: Call, known: set[Any]) -> bool:
    return bool(call.events) and all(event.get("id") in known for event in call.events)


def named(call: Call) -> str:
    return f"{call.method} {call.path}" + (f" ({call.status})" if call.status not in (0, 200) else "")


def why(call: Call) -> str:
    said = call.said if isinstance(call.said, dict) else {}
    return str(said.get("reason") or said.get("message") or said)[:300]


def short(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:100]} ... {text[-15:]}") if text else "nothing"
