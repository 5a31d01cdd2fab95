"""The checks: a sentence of the contract each, and what the scenes show of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gateway.conformance.model import NO_TOOL
from gateway.conformance.scenes import PATIENCE, QUESTION, REPORT, SILENCE, STALL, WHOLE
from gateway.conformance.stage import STOP_SECONDS, Played
from gateway.conformance.watch import Call, Left

Json = dict[str, Any]
Verdict = Literal["passed", "failed", "not shown"]

KILLED = 137  # the exit code of what was ended by KILL
NO_MODEL = "it declares no model provider the kit can play"
FEW = 3  # requests an image may have under way when it is told to stop


class Found(NamedTuple):
    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Shown:
    """All that was played, by scene; `steers`: whether the image says that it takes a steer."""

    played: Mapping[str, Played]
    steers: bool

    def __getitem__(self, name: str) -> Played:
        return self.played[name]


@dataclass(frozen=True, slots=True)
class Check:
    """`scenes`: what it looks at; where one of them was not played, it is not shown."""

    id: str
    says: str
    scenes: Sequence[str]
    judge: Callable[[Shown], Found]
    required: bool = True


def passed(evidence: str) -> Found:
    return Found("passed", evidence)


def failed(evidence: str) -> Found:
    return Found("failed", evidence)


def not_shown(evidence: str) -> Found:
    return Found("not shown", evidence)


# -- a turn


def _starts(shown: Shown) -> Found:
    scene = shown["text"]
    if scene.seen.calls:
        return passed(f"its first request was {_named(scene.seen.calls[0])}")
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
    return passed(f"{_named(read[0])}, {'and its model was given the prompt' if scene.asked else 'at once'}")


def _appends(shown: Shown) -> Found:
    scene = shown["text"]
    expected = WHOLE if scene.asked else ""
    if scene.text and expected in scene.text:
        return passed(f"its caller read {_short(scene.text)}")
    return failed(f"its caller read {_short(scene.text)}" + (f", of what its model said: {WHOLE!r}" if expected else ""))


def _ends(shown: Shown) -> Found:
    scene = shown["text"]
    left, state = _first(scene), scene.turns[0][1]
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
    wrong = [call for call in _calls(shown) if call.status in (400, 401, 404, 405, 413, 422) and not call.injected]
    if wrong:
        return failed(f"{len(wrong)} requests were refused, the first: {_named(wrong[0])}: {_why(wrong[0])}")
    return passed(f"{len(list(_calls(shown)))} requests, all of them as the schema has them")


def _after_end(shown: Shown) -> Found:
    for scene in shown.played.values():
        for n, call in enumerate(scene.seen.calls):
            if _is_end(call) and call.status == 200:
                known = {
                    event.get("id") for one in scene.seen.posts[: scene.seen.posts.index(call) + 1] for event in one.events
                }
                later = [
                    one
                    for one in scene.seen.calls[n + 1 :]
                    if one.attempt == call.attempt and not _repeats(one, known) and one.posts
                ]
                if len(later) > FEW:
                    return failed(f"in {scene.scene.name} it posted {len(later)} times more after its done")
    return passed("nothing but what was under way")


# -- what goes wrong


def _crash(shown: Shown) -> Found:
    scene = shown["crash"]
    if (missing := _no_second(scene)) is not None:
        return missing
    text = _told_once(scene)
    if scene.asked and scene.text != WHOLE:
        return failed(f"its caller read {_short(scene.text)}, and should have read {WHOLE!r}")
    if not scene.asked and text and scene.text.count(text) > 1:
        return failed(f"its caller read {_short(text)} more than once")
    return passed(f"killed after its first words, it went on in attempt {_attempts(scene)}; they stand there once")


def _crash_tool(shown: Shown) -> Found:
    scene = shown["crash-tool"]
    if not scene.seen.effects:
        return _toolless(scene)
    if (missing := _no_second(scene)) is not None:
        return missing
    times = scene.seen.effects.count(scene.seen.effects[0])
    if times > 1:
        ids = sorted(scene.seen.results)
        return failed(f"the command ran {times} times, because the second attempt gave it another call_id: {', '.join(ids)}")
    asked = sum(call.acts for call in scene.seen.calls)
    return passed(f"asked for {asked} times under one call_id, the command ran once")


def _superseded(shown: Shown) -> Found:
    scene = shown["superseded"]
    told = [call for call in scene.seen.calls if call.status == 409]
    if not told:
        return not_shown("it ended before it could be told")
    left = _first(scene)
    if left is None or left.forced:
        return failed(f"told 409 {len(told)} times, it was still there after {PATIENCE:g} s")
    return passed(f"it exited {max(left.at - told[0].at, 0):.1f} s after its first 409")


def _weather(shown: Shown) -> Found:
    scene = shown["weather"]
    if scene.turns[0][1] != "completed":
        return failed(f"the turn ended as {scene.turns[0][1] or 'nothing'}: {scene.error}")
    if scene.asked and not scene.text.startswith(WHOLE):
        return failed(f"its caller read {_short(scene.text)}, and should have read {WHOLE!r} once")
    again = [count for count in Counter(str(event.get("id")) for event in scene.seen.posted).values() if count > 1]
    return passed(f"503 and a lost answer cost nothing: {len(again)} events were sent again under their ids")


def _twice(shown: Shown) -> Found:
    scene = shown["weather"]
    if not scene.seen.effects:
        return _toolless(scene)
    times = scene.seen.effects.count(scene.seen.effects[0])
    return passed("the command ran once") if times == 1 else failed(f"the command ran {times} times")


def _refused(shown: Shown) -> Found:
    scene = shown["refused"]
    times = sum(call.status == 400 and call.injected for call in scene.seen.calls)
    if not times:
        return not_shown("it posts too little to be refused in the middle")
    if times > FEW or not scene.seen.left or scene.seen.left[0].forced:
        return failed(f"refused with 400, it sent the like {times} times and did not end")
    return passed(f"refused with 400 {times} times, it ended ({scene.turns[0][1]})")


# -- what is asked of it


def _cancel(shown: Shown) -> Found:
    scene = shown["cancel"]
    if scene.turns[0][1] != "canceled":
        return not_shown(f"the turn ended as {scene.turns[0][1] or 'nothing'} before it was canceled: {scene.error}")
    told = _told_of(scene, "cancel")
    left = _first(scene)
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
    if not _told_of(scene, "steer"):
        return failed("it never asked whether there is a message for it")
    if "steered" not in scene.seen.kinds():
        return failed("it was told of a message and did not post steered")
    if "I heard you." not in scene.text:
        return failed("it posted steered, and its model was not given the message")
    return passed("its model was given the message, in the same turn")


def _ask(shown: Shown) -> Found:
    scene = shown["ask"]
    if "ask" not in scene.seen.kinds():
        return _toolless(scene)
    left = _first(scene)
    if scene.turns[0][1] != "needs_input":
        how = "it did not exit" if left is None or left.forced else f"it exited with {left.code}"
        return failed(f"it asked {QUESTION!r}, and the turn ended as {scene.turns[0][1]}: {how}")
    if len(scene.turns) < 2 or scene.turns[1][1] != "completed":
        return failed(f"the turn with the answer ended as {scene.turns[-1][1]}: {scene.error}")
    return passed("it asked and exited; the answer was its next turn")


def _artifact(shown: Shown) -> Found:
    scene = shown["artifact"]
    if "artifact" not in scene.seen.kinds():
        return _toolless(scene)
    texts = [str(part.get("text", "")) for body in scene.bodies("artifact") for part in body.get("parts") or ()]
    if REPORT in "".join(texts):
        return passed("its caller got it")
    return failed(f"its caller got {_short(''.join(texts))}")


def _tool(shown: Shown) -> Found:
    scene = shown["shell"]
    if any("kit-printed" in one.said.replace("echo kit-printed", "") for one in scene.asked):
        return passed("its model was told what the command printed")
    return failed("its model was not told what the command printed") if scene.seen.effects else _toolless(scene)


def _slow(shown: Shown) -> Found:
    scene = shown["slow"]
    beats = sum((call.method, call.path) == ("POST", "/heartbeat") for call in scene.seen.calls)
    if scene.turns[0][1] == "completed":
        return passed(f"{beats} heartbeats while its model said nothing for {SILENCE:g} s")
    return failed(f"{beats} heartbeats; silent for {STALL:g} s, it ended as {scene.turns[0][1]}")


def _deadline(shown: Shown) -> Found:
    scene = shown["deadline"]
    if scene.turns[0][1] != "deadline_exceeded":
        return not_shown(f"the turn ended as {scene.turns[0][1]} before its deadline: {scene.error}")
    left = scene.seen.left[-1] if scene.seen.left else None
    if left is None or left.code in (None, KILLED):
        return failed(f"it did not obey TERM and was killed after {STOP_SECONDS:g} s")
    return passed(f"it ended with {left.code} when it was told to")


# -- words


def _calls(shown: Shown) -> Iterator[Call]:
    return (call for scene in shown.played.values() for call in scene.seen.calls)


def _first(scene: Played) -> Left | None:
    return scene.seen.left[0] if scene.seen.left else None


def _attempts(scene: Played) -> int:
    return max((call.attempt for call in scene.seen.calls), default=0)


def _no_second(scene: Played) -> Found | None:
    """What is wrong where it was killed and did not come to its end in another attempt."""
    if not scene.seen.left:
        return not_shown(f"it came to no point to kill it at: {scene.error}")
    if scene.turns[0][1] != "completed":
        return failed(
            f"killed, its turn ended as {scene.turns[0][1] or 'nothing'} in attempt {_attempts(scene)}: {scene.error}"
        )
    return None if _attempts(scene) > 1 else not_shown("it told all it had to tell at once")


def _told_once(scene: Played) -> str:
    """What its first attempt told."""
    return "".join(str(event.get("text", "")) for call in scene.seen.posts if call.attempt == 1 for event in call.events)


def _told_of(scene: Played, what: str) -> bool:
    said = [call.said for call in scene.seen.calls if isinstance(call.said, dict)]
    return any(one.get("type") == what for answer in said for one in answer.get("control") or ())


def _toolless(scene: Played) -> Found:
    if not scene.asked:
        return not_shown(NO_MODEL)
    if any(call.path == "/mcp" for call in scene.seen.calls):
        return not_shown("it acts by MCP, which numbers its calls itself")
    offered = sorted({tool for one in scene.asked for tool in one.tools})
    if NO_TOOL in scene.text or not offered:
        return not_shown(f"it offers its model no tool for this, of {', '.join(offered) or 'none at all'}")
    return failed(f"its model used its tool, and nothing came of it: {scene.error or scene.turns[0][1]}")


def _is_end(call: Call) -> bool:
    return any(event.get("type") in ("done", "message") for event in call.events)


def _repeats(call: Call, known: set[Any]) -> bool:
    return bool(call.events) and all(event.get("id") in known for event in call.events)


def _named(call: Call) -> str:
    return f"{call.method} {call.path}" + (f" ({call.status})" if call.status not in (0, 200) else "")


def _why(call: Call) -> str:
    said = call.said if isinstance(call.said, dict) else {}
    return str(said.get("reason") or said.get("message") or said)[:300]


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:100]} ... {text[-15:]}") if text else "nothing"


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
    Check("heartbeat", "An image that waits for a model for long MUST beat, every 10 seconds.", ["slow"], _slow),
    Check("term", "It is stopped by TERM, and KILL SWITCHBOARD_STOP_SECONDS later.", ["deadline"], _deadline),
)
