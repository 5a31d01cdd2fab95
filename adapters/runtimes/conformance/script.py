"""The agent that conformance kits for A2A expect: what it does is chosen by the beginning of the message's id.

Standard library only and nothing of this project, so that it runs as `python -I script.py`, over `specs/jsonl-protocol.md`.
The behaviours are those of https://github.com/a2aproject/a2a-tck; a message with any other id is answered by a text.
"""

import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

STREAM_SECONDS = 2.0  # how long the kit lets a stream be silent
TEXT_FILE = {"filename": "output.txt", "mediaType": "text/plain"}
RAW = "R2VuZXJhdGVkIGZpbGUgY29udGVudA=="  # "Generated file content"

heard: "queue.SimpleQueue[dict[str, Any] | None]" = queue.SimpleQueue()


class Interrupted(Exception):
    """The gateway asked to stop this turn, or closed stdin."""


def say(type: str, **body: Any) -> None:
    sys.stdout.write(json.dumps({"type": type, **body}) + "\n")
    sys.stdout.flush()


def done(reason: str = "completed", **more: Any) -> None:
    say("done", yield_reason=reason, **more)


def working() -> None:
    say("status", text="Working.")


def artifact(*parts: dict[str, Any], **more: Any) -> None:
    say("artifact", name="output", parts=list(parts), **more)


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            message = heard.get(timeout=left)
        except queue.Empty:
            return
        if message is None:
            heard.put(None)
            raise Interrupted
        if message.get("type") == "interrupt":
            raise Interrupted


def answers(text: str) -> Callable[[], None]:
    return lambda: done(message=text)


def makes(*parts: dict[str, Any]) -> Callable[[], None]:
    def act() -> None:
        artifact(*parts)
        done()

    return act


def works(*parts: dict[str, Any]) -> Callable[[], None]:
    def act() -> None:
        working()
        makes(*parts)()

    return act


def delays(text: str, seconds: float) -> Callable[[], None]:
    def act() -> None:
        working()
        wait(seconds)
        done(message=text)

    return act


def asks(question: str, reason: str) -> Callable[[], None]:
    def act() -> None:
        say("ask", question=question)
        done(reason)

    return act


def chunked() -> None:
    artifact({"text": "chunk-1 "}, last=False)
    artifact({"text": "chunk-2"}, append=True)
    done()


def plain() -> None:
    say("chunk", text="Hello from the conformance agent.")
    done()


BEHAVIOURS: dict[str, Callable[[], None]] = {
    "tck-complete-task": answers("Hello from TCK"),
    "tck-artifact-text": makes({"text": "Generated text content"}),
    "tck-artifact-file": makes({"raw": RAW, **TEXT_FILE}),
    "tck-artifact-file-url": makes({"url": "https://example.com/output.txt", **TEXT_FILE}),
    "tck-artifact-data": makes({"data": {"key": "value", "count": 42}}),
    "tck-message-response": lambda: say("message", parts=[{"text": "Direct message response"}]),
    "tck-input-required": asks("What else do you want to say?", "needs_input"),
    "tck-auth-required": asks("Authorize the agent, then send a message to this task.", "needs_auth"),
    "tck-reject-task": lambda: done("rejected", message="rejected"),
    "tck-delayed-complete": delays("Done after delay", STREAM_SECONDS),
    "tck-stream-001": works({"text": "Stream hello from TCK"}),
    "tck-stream-002": answers("Stream completed"),
    "tck-stream-003": works({"text": "Stream task lifecycle"}),
    "tck-stream-ordering-001": works({"text": "Ordered output"}),
    "tck-stream-artifact-text": makes({"text": "Streamed text content"}),
    "tck-stream-artifact-file": makes({"raw": RAW, **TEXT_FILE}),
    "tck-stream-artifact-chunked": chunked,
    "test-resubscribe-message-id": delays("Resubscribed", 2 * STREAM_SECONDS),
}
LONGEST_FIRST = sorted(BEHAVIOURS, key=len, reverse=True)


def play(message_id: str) -> None:
    prefix = next((prefix for prefix in LONGEST_FIRST if message_id.startswith(prefix)), "")
    try:
        BEHAVIOURS.get(prefix, plain)()
    except Interrupted:
        done("canceled")


def listen() -> None:
    for line in sys.stdin:
        heard.put(json.loads(line))
    heard.put(None)


def main() -> None:
    threading.Thread(target=listen, daemon=True).start()
    while (message := heard.get()) is not None:
        if message.get("type") == "turn":
            play(message.get("message_id") or "")


if __name__ == "__main__":
    main()
