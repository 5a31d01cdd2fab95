"""An image's only file, for tests: does what the words of the prompt say, over the runtime API.

It numbers its events alike in each attempt, and keeps in its journal what it has done outside of them.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

ENV = os.environ
API = urllib.parse.urlsplit(ENV["RUNTIME_API_URL"])
DONE = os.path.join(ENV["JOURNAL_DIR"], "done.txt")


def call(method: str, path: str, body: Any = None, token: str = ENV["TURN_TOKEN"]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(str(API.hostname), API.port, timeout=70)
    connection.request(method, f"/runtime/v1/{path}", json.dumps(body), {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def post(*events: dict[str, Any]) -> Any:
    status, answer = call("POST", "events", {"events": list(events)})
    if status == 409:
        sys.exit(9)
    return answer


def chunk(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "type": "chunk", "text": text}


def tried(what: Any) -> str:
    try:
        what()
    except OSError:
        return "refused"
    return "reached"


def side_effect() -> None:
    """Once, however often the turn begins."""
    if not os.path.exists(DONE):
        with open(DONE, "w", encoding="utf-8") as file:
            file.write("once")
        post(chunk("effect", "effect "))


def main() -> int:
    _, turn = call("GET", "turn")
    words = turn["prompt"].split()
    print("begun", ENV["ATTEMPT"])
    post(chunk("begin", f"attempt {turn['attempt']} "))
    for word in words:
        if word == "EFFECT":
            side_effect()
        elif word == "CRASH" and turn["attempt"] == 1:
            return 3
        elif word == "ACT":
            command = {"command": "echo acted >> acts.txt; mkdir -p outbox; cp acts.txt outbox; cat acts.txt"}
            _, answer = call("POST", "sandbox/call", {"call_id": "act", "tool": "bash", "input": command})
            post(chunk("acted", answer["output"]))
        elif word == "HOLD":
            command = {"command": "until [ -e go ]; do sleep 0.05; done; rm go"}
            call("POST", "sandbox/call", {"call_id": "hold", "tool": "bash", "input": command})
        elif word.startswith("http://"):
            get = f"import urllib.request; print(urllib.request.urlopen({word!r}).status)"
            command = {"command": f'env -u NO_PROXY -u no_proxy python3 -I -c "{get}" 2>&1 | tail -n 1'}
            _, answer = call("POST", "sandbox/call", {"call_id": f"get-{words.index(word)}", "tool": "bash", "input": command})
            post(chunk(f"got-{words.index(word)}", answer["output"]))
        elif word == "SLOW":
            command = {"command": "sleep 2; echo slow >> slow.txt; cat slow.txt"}
            body = {"call_id": "slow", "tool": "bash", "input": command}
            if turn["attempt"] == 1:  # dies while it runs
                threading.Thread(target=call, args=("POST", "sandbox/call", body), daemon=True).start()
                while not any(
                    "slow" in json.dumps(told) for told in call("GET", f"events?after={turn['read_cursor']}")[1]["events"]
                ):
                    time.sleep(0.05)
                os._exit(3)
            post(chunk("slow", call("POST", "sandbox/call", body)[1]["output"]))
        elif word == "LONG":
            command = {"command": "echo ran >> ran.txt; sleep 299"}
            _, answer = call("POST", "sandbox/call", {"call_id": "long", "tool": "bash", "input": command})
            look = {"command": "cat ran.txt; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'slee[p] 299'"}
            _, seen = call("POST", "sandbox/call", {"call_id": "look", "tool": "bash", "input": look})
            post(chunk("long", f"interrupted {answer['interrupted']}, {seen['output']}"))
        elif (word == "STUCK" and turn["attempt"] == 1) or word == "HANG":
            time.sleep(600)
        elif word == "WAIT":
            after = int(ENV["READ_CURSOR"])
            while True:
                page = call("GET", f"events?after={after}&wait=30")[1]
                after = page["cursor"]
                for asked in page["control"]:
                    if asked["type"] == "cancel":
                        post({"id": "over", "type": "done", "yield_reason": "canceled"})
                        return 0
                    steered = {"id": f"steered-{asked['id']}", "type": "steered", "steer": asked["id"]}
                    post(steered, chunk(f"said-{asked['id']}", f"steered {asked['text']} "))
                    return 0
        elif word == "LOOK":
            facts = {
                "uid": os.getuid(),
                "root": tried(lambda: open("/here", "w", encoding="utf-8").close()),
                "journal": sorted(os.listdir(ENV["JOURNAL_DIR"])),
                "network": tried(lambda: socket.create_connection(("192.0.2.1", 80), 2).close()),
                "names": sorted(name for name in ENV if name not in ("PATH", "HOSTNAME")),
                "interfaces": [name for _, name in socket.if_nameindex()],
            }
            post({"id": "facts", "type": "artifact", "name": "facts", "parts": [{"data": facts}]})
        elif word == "MODEL":
            url = f"{ENV['OPENAI_BASE_URL']}/models"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ENV['OPENAI_API_KEY']}"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                post(chunk("model", answer.read().decode()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
