"""The checks: a sentence of the contract each, and what the scenes show of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.conformance.evidence import (
    FEW,
    KILLED,
    NO_MODEL,
    Found,
    Shown,
    attempts,
    calls,
    ended_before,
    failed,
    first,
    is_end,
    is_refused,
    named,
    no_second,
    not_shown,
    passed,
    ran_again,
    repeats,
    short,
    told_of,
    told_once,
    toolless,
    why,
)
from gateway.conformance.scenes import OF_PROVIDERS, PATIENCE, QUESTION, RAN, REPORT, SILENCE, STALL, WHOLE
from gateway.conformance.stage import STOP_SECONDS
from registry.rules import listed


@dataclass(frozen=True, slots=True)
class Check:
    """`scenes`: what it looks at; where one of them was not played, it is not shown."""

    id: str
    says: str
    scenes: Sequence[str]
    judge: Callable[[Shown], Found]
    required: bool = True


# -- a turn


def _starts(shown: Shown) -> Found:
    scene = shown["text"]
    if scene.seen.calls:
        return passed(f"its first request was {named(scene.seen.calls[0])}")
    return failed(f"it made no request at all: {scene.error or 'it said nothing'}")


def _reads(shown: Shown) -> Found:
    scene = shown["text"]
    read = [
        call for call in scene.seen.calls if call.method == "GET" and call.path in ("/turn", "/events") and call.status == 200
    ]
    if not read:
        return failed("it asked neither for the turn nor for the events")
    if scene.asked and scene.scene.prompt not in scene.asked[0].said:
        return failed("its model was not given the prompt")
    return passed(f"{named(read[0])}, {'and its model was given the prompt' if scene.asked else 'at once'}")


def _appends(shown: Shown) -> Found:
    scene = shown["text"]
    expected = WHOLE if scene.asked else ""
    if scene.text and expected in scene.text:
        return passed(f"its caller read {short(scene.text)}")
    return failed(f"its caller read {short(scene.text)}" + (f", of what its model said: {WHOLE!r}" if expected else ""))


def _ends(shown: Shown) -> Found:
    scene = shown["text"]
    left, state = first(scene), scene.outcome
    if left is None or left.forced:
        return failed(
            f"it was stopped, {STOP_SECONDS:g} s after its end" if "done" in scene.seen.kinds() else "it had to be stopped"
        )
    if left.code != 0:
        return failed(f"it exited with {left.code}: {scene.error}")
    if state != "completed":
        return failed(f"the turn ended as {state}: {scene.error}")
    said = "with its done" if {"done", "message"} & set(scene.seen.kinds()) else "without one, which completes the turn"
    return passed(f"exit code 0, {said}")


def _memory(shown: Shown) -> Found:
    scene = shown["text"]
    later = [one for one in scene.asked_later if scene.scene.prompt in one.said]
    if not scene.asked:
        return not_shown(NO_MODEL)
    if not scene.asked_later:
        return failed("its model was not asked in the second turn")
    if not later:
        return failed("in the second turn its model was not told of the first")
    return passed("in the second turn its model was told what was said in the first")


def _valid(shown: Shown) -> Found:
    wrong = [call for call in calls(shown) if is_refused(call)]
    if wrong:
        return failed(f"{len(wrong)} requests were refused, the first: {named(wrong[0])}: {why(wrong[0])}")
    return passed(f"{len(list(calls(shown)))} requests, all of them as the schema has them")


def _after_end(shown: Shown) -> Found:
    for scene in shown.played.values():
        for n, call in enumerate(scene.seen.calls):
            if is_end(call) and call.status == 200:
                known = {
                    event.get("id") for one in scene.seen.posts[: scene.seen.posts.index(call) + 1] for event in one.events
                }
                later = [
                    one
                    for one in scene.seen.calls[n + 1 :]
                    if one.attempt == call.attempt and not repeats(one, known) and one.posts
                ]
                if len(later) > FEW:
                    return failed(f"in {scene.scene.name} it posted {len(later)} times more after its done")
    return passed("nothing but what was under way")


# -- what goes wrong


def _crash(shown: Shown) -> Found:
    scene = shown["crash"]
    if (missing := no_second(scene)) is not None:
        return missing
    text = told_once(scene)
    if scene.asked and scene.text != WHOLE:
        return failed(f"its caller read {short(scene.text)}, and should have read {WHOLE!r}")
    if not scene.asked and text and scene.text.count(text) > 1:
        return failed(f"its caller read {short(text)} more than once")
    return passed(f"killed after its first words, it went on in attempt {attempts(scene)}; they stand there once")


def _crash_tool(shown: Shown) -> Found:
    scene = shown["crash-tool"]
    if not scene.seen.effects:
        return toolless(scene)
    if (missing := no_second(scene)) is not None:
        return missing
    if (again := ran_again(scene)) is not None:
        return again
    asked = sum(call.acts for call in scene.seen.calls)
    return passed(f"asked for {asked} times under one call_id, the command ran once")


def _superseded(shown: Shown) -> Found:
    scene = shown["superseded"]
    told = [call for call in scene.seen.calls if call.status == 409]
    if not told:
        return not_shown("it ended before it could be told")
    left = first(scene)
    if left is None or left.forced:
        return failed(f"told 409 {len(told)} times, it was still there after {PATIENCE:g} s")
    return passed(f"it exited {max(left.at - told[0].at, 0):.1f} s after its first 409")


def _weather(shown: Shown) -> Found:
    scene = shown["weather"]
    if scene.outcome != "completed":
        return failed(f"the turn ended as {scene.outcome or 'nothing'}: {scene.error}")
    if scene.asked and not scene.text.startswith(WHOLE):
        return failed(f"its caller read {short(scene.text)}, and should have read {WHOLE!r} once")
    again = [count for count in Counter(str(event.get("id")) for event in scene.seen.posted).values() if count > 1]
    return passed(f"503 and a lost answer cost nothing: {len(again)} events were sent again under their ids")


def _twice(shown: Shown) -> Found:
    scene = shown["weather"]
    if not scene.seen.effects:
        return toolless(scene)
    return ran_again(scene) or passed("the command ran once")


def _refused(shown: Shown) -> Found:
    scene = shown["refused"]
    times = sum(call.status == 400 and call.injected for call in scene.seen.calls)
    if not times:
        return not_shown("it posts too little to be refused in the middle")
    if times > FEW or not scene.seen.left or scene.seen.left[0].forced:
        return failed(f"refused with 400, it sent the like {times} times and did not end")
    return passed(f"refused with 400 {times} times, it ended ({scene.outcome})")


# -- what is asked of it


def _cancel(shown: Shown) -> Found:
    scene = shown["cancel"]
    if (early := ended_before(scene, "canceled", "it was canceled")) is not None:
        return early
    told = told_of(scene, "cancel")
    left = first(scene)
    if "canceled" in [event.get("yield_reason") for event in scene.seen.posted]:
        return passed("told of the cancel it posted done with canceled")
    if left is not None and not left.forced:
        return passed("told of the cancel it exited")
    return failed(
        f"{'told of the cancel' if told else 'it never asked whether it is canceled, and'} was stopped {STOP_SECONDS:g} s later"
    )


def _steer(shown: Shown) -> Found:
    scene = shown["steer"]
    if not shown.steers:
        return not_shown("it does not say that it takes a steer")
    if not told_of(scene, "steer"):
        return failed("it never asked whether there is a message for it")
    if "steered" not in scene.seen.kinds():
        return failed("it was told of a message and did not post steered")
    if "I heard you." not in scene.text:
        return failed("it posted steered, and its model was not given the message")
    return passed("its model was given the message, in the same turn")


def _ask(shown: Shown) -> Found:
    scene = shown["ask"]
    if "ask" not in scene.seen.kinds():
        return toolless(scene)
    left = first(scene)
    if scene.outcome != "needs_input":
        how = "it did not exit" if left is None or left.forced else f"it exited with {left.code}"
        return failed(f"it asked {QUESTION!r}, and the turn ended as {scene.outcome}: {how}")
    if len(scene.turns) < 2 or scene.turns[1][1] != "completed":
        return failed(f"the turn with the answer ended as {scene.turns[-1][1]}: {scene.error}")
    return passed("it asked and exited; the answer was its next turn")


def _artifact(shown: Shown) -> Found:
    scene = shown["artifact"]
    if "artifact" not in scene.seen.kinds():
        return toolless(scene)
    texts = [str(part.get("text", "")) for body in scene.bodies("artifact") for part in body.get("parts") or ()]
    if REPORT in "".join(texts):
        return passed("its caller got it")
    return failed(f"its caller got {short(''.join(texts))}")


def _tool(shown: Shown) -> Found:
    scene = shown["shell"]
    if any("kit-printed" in one.said.replace("echo kit-printed", "") for one in scene.asked):
        return passed("its model was told what the command printed")
    return failed("its model was not told what the command printed") if scene.seen.effects else toolless(scene)


def _providers(shown: Shown) -> Found:
    scenes = {name: shown.played[scene.name] for name, scene in OF_PROVIDERS.items() if scene.name in shown.played}
    if not scenes:
        return not_shown("it declares no second provider the kit can play")
    for name, scene in scenes.items():
        if not scene.asked:
            return failed(f"with {name} its model was not asked: {scene.error or scene.outcome}")
        if scene.outcome != "completed" or (RAN not in scene.text and scene.seen.effects):
            return failed(f"with {name} the turn ended as {scene.outcome}, its caller read {short(scene.text)}: {scene.error}")
    return passed(f"its model was asked as {listed(list(scenes))} has it, too")


def _slow(shown: Shown) -> Found:
    scene = shown["slow"]
    beats = sum((call.method, call.path) == ("POST", "/heartbeat") for call in scene.seen.calls)
    if scene.outcome == "completed":
        return passed(f"{beats} heartbeats while its model said nothing for {SILENCE:g} s")
    return failed(f"{beats} heartbeats; silent for {STALL:g} s, it ended as {scene.outcome}")


def _deadline(shown: Shown) -> Found:
    scene = shown["deadline"]
    if (early := ended_before(scene, "deadline_exceeded", "its deadline")) is not None:
        return early
    left = scene.seen.left[-1] if scene.seen.left else None
    if left is None or left.code in (None, KILLED):
        return failed(f"it did not obey TERM and was killed after {STOP_SECONDS:g} s")
    return passed(f"it ended with {left.code} when it was told to")


CHECKS = (
    Check("start", "The image's own ENTRYPOINT and CMD are run, on a read-only root.", ["text"], _starts),
    Check("read", "It asks for its input.", ["text"], _reads),
    Check("append", "It tells what it does and says.", ["text"], _appends),
    Check("end", "It posts done or message, or exits with 0: the turn is over, and so is the image.", ["text"], _ends),
    Check("memory", "A turn goes on with its session's conversation.", ["text"], _memory),
    Check("valid", "A batch with one event that is not as the schema has it is refused whole.", [], _valid),
    Check("after-end", "Nothing is taken after done.", [], _after_end),
    Check("crash", "The turn begins again in the same journal: ids it posts again are duplicates.", ["crash"], _crash),
    Check("crash-tool", "The sandbox does a call once for its call_id, in all attempts.", ["crash-tool"], _crash_tool),
    Check("superseded", "409: another attempt has the turn. It MUST exit.", ["superseded"], _superseded),
    Check("unavailable", "503, or a connection that breaks: it sends the same again.", ["weather"], _weather),
    Check("call-again", "A call of the sandbox that got no answer is sent again under its call_id.", ["weather"], _twice),
    Check("refused", "400: nothing of the batch was taken; the same again is refused again.", ["refused"], _refused),
    Check("cancel", "cancel: post done with canceled and exit.", ["cancel"], _cancel),
    Check("steer", "steer: take it into the turn and post steered.", ["steer"], _steer),
    Check("ask", "An image that asks exits with 0; the answer is the next turn.", ["ask"], _ask),
    Check("artifact", "artifact: text, a file or data for the caller.", ["artifact"], _artifact),
    Check("tool", "Commands and files are the sandbox's.", ["shell"], _tool),
    Check("providers", "Its version says which model providers it can drive.", [], _providers),
    Check("heartbeat", "An image that waits for a model for long MUST beat, every 10 seconds.", ["slow"], _slow),
    Check("term", "It is stopped by TERM, and KILL SWITCHBOARD_STOP_SECONDS later.", ["deadline"], _deadline),
)
