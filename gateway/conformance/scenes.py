"""The scenes: what the model says in each, what happens to the image meanwhile, and what it is answered.

Each is a session of its own. A scene that needs a model is not played with an image that declares none the kit can play.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import anyio

from gateway.conformance.model import Step
from gateway.conformance.stage import PLAYED, Playing, Scene, Stage
from gateway.conformance.watch import Answer, Call, PassOn, Seen, answer_of, problem

PIECES = ("Hello ", "from ", "the ", "kit.")
WHOLE = "".join(PIECES)
RAN = "It ran."
QUESTION, REPORT = "Which colour?", "What the kit wants to have."
SILENCE, STALL = 13.0, 11.0  # seconds the model says nothing; an image may be silent
PATIENCE = 10.0  # seconds an image may take to see that it has to exit
BEGIN_SECONDS = 30.0
_SOON = {"turn_seconds": 20}
_FOREVER = Step(("Working. ", "Never."), pause=120)


def tells(call: Call) -> bool:
    return any(event.get("type") in ("chunk", "message") for event in call.events)


def nth(seen: Seen, call: Call) -> int:
    """Which of its attempt's posts with words for the caller this is, from 1."""
    return sum(1 for one in seen.calls if one.attempt == call.attempt and tells(one))


# -- what happens to a request


async def dies_telling(seen: Seen, call: Call, pass_on: PassOn) -> Answer | None:
    """Its first words are stored, and it is killed before it hears of it."""
    answer = await pass_on()
    if call.attempt == 1 and tells(call):
        await seen.kill()
        return None
    return answer


async def dies_acting(seen: Seen, call: Call, pass_on: PassOn) -> Answer | None:
    """Its first command has run, and it is killed before it hears of it."""
    answer = await pass_on()
    if call.attempt == 1 and call.acts:
        await seen.kill()
        return None
    return answer


async def superseded(seen: Seen, call: Call, pass_on: PassOn) -> Answer | None:
    answer = await pass_on()
    if tells(call):
        seen.supersede()
    return answer


async def weather(seen: Seen, call: Call, pass_on: PassOn) -> Answer | None:
    """Every kind of request is once not available, the answer to the first words is lost, and answers have more to them."""
    alike = [one for one in seen.calls if one.kind == call.kind]
    if len(alike) == (3 if call.posts else 1):
        return answer_of(503, problem("unavailable", "Not now."), (b"retry-after", b"1"))
    answer = await pass_on()
    if tells(call) and nth(seen, call) == 1:
        return None
    if answer.status != 200 or call.rpc:  # what JSON-RPC answers has no room for more
        return answer
    return answer._replace(body=json.dumps(_more(answer.json())).encode())


def _more(said: object) -> object:
    if not isinstance(said, dict):
        return said
    control = {"control": [*said["control"], {"type": "kit_unknown", "id": "1"}]} if "control" in said else {}
    return {**said, **control, "kit_unknown": {"more": [1]}}


async def refused(seen: Seen, call: Call, pass_on: PassOn) -> Answer | None:
    """Its second words are refused, as often as it sends them."""
    if call.attempt == 1 and tells(call) and nth(seen, call) >= 2:
        return answer_of(
            400, {**problem("invalid_event", "The event at index 0 cannot be taken."), "index": 0, "reason": "kit"}
        )
    return await pass_on()


# -- what happens meanwhile


async def has_begun(seen: Seen) -> bool:
    return await seen.until(lambda: any(tells(call) and call.status for call in seen.calls), BEGIN_SECONDS)


async def cancels(stage: Stage, playing: Playing) -> None:
    if await has_begun(playing.seen):
        await stage.cancel(playing)


async def steers(stage: Stage, playing: Playing) -> None:
    if await has_begun(playing.seen):
        await stage.steer(playing, "And then: scene:steered. Say that you heard.")


async def waits_for_exit(stage: Stage, playing: Playing) -> None:
    """Ends the scene where the image does not."""
    if await has_begun(playing.seen):
        await playing.seen.until(lambda: playing.seen.left, PATIENCE)
        await stage.cancel(playing)


async def bounds(stage: Stage, playing: Playing) -> None:
    """Ends the scene where the image does not see that it is refused."""
    seen = playing.seen
    if await seen.until(lambda: any(call.status == 400 for call in seen.calls), BEGIN_SECONDS):
        again = await seen.until(lambda: seen.left or sum(call.status == 400 for call in seen.calls) > 20, PATIENCE)
        if not (again and seen.left):
            await stage.cancel(playing)
    await anyio.sleep_forever()


_SHELL = (Step(("Running it. ",), ("shell", "echo kit-printed")), Step((RAN,)))
_SCENES = (
    Scene("text", [Step(PIECES, pause=0.05)], then="memory"),
    Scene("shell", _SHELL),
    Scene("crash", [Step(PIECES, pause=0.3)], rule=dies_telling),
    Scene("crash-tool", [Step(("Running it. ",), ("shell", "echo kit-once")), Step((RAN,))], rule=dies_acting),
    Scene("cancel", [_FOREVER], during=cancels),
    Scene("steer", [Step(("One. ", "Two. ", "Three. "), pause=1)], during=steers),
    Scene("superseded", [Step(tuple(f"{n} " for n in range(200)), pause=0.2)], rule=superseded, during=waits_for_exit),
    Scene("ask", [Step(("Hm. ",), ("ask", QUESTION)), Step(("On.",))], limits=_SOON, then="answer", answers=True),
    Scene("artifact", [Step(("Here. ",), ("artifact", REPORT)), Step(("There.",))]),
    Scene("slow", [Step(("I thought about it.",), silence=SILENCE)], limits={"stall_seconds": STALL}),
    Scene("deadline", [_FOREVER], limits={"turn_seconds": 7}),
    Scene("weather", [Step((*PIECES, " "), ("shell", "echo kit-once"), pause=0.1), Step((RAN,))], rule=weather),
    Scene("refused", [Step(PIECES, pause=0.2)], rule=refused, during=bounds, limits={"turn_seconds": 40}),
)  # fmt: skip
SCENES: Mapping[str, Scene] = {scene.name: scene for scene in _SCENES}
OF_PROVIDERS = {name: Scene(f"shell-{name}", _SHELL) for name in PLAYED}  # for whoever has more than one
WITHOUT_MODEL = ("text", "crash", "superseded", "weather", "refused")  # scenes for images that need none
SCRIPTS: Mapping[str, Sequence[Step]] = {
    **{scene.name: scene.steps for scene in (*_SCENES, *OF_PROVIDERS.values())},
    "memory": [Step(("We have met.",))],
    "answer": [Step(("Blue, then.",))],
    "steered": [Step(("I heard you.",))],
}
