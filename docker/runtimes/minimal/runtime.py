"""The reference runtime: drives models by OpenAI's chat completions or Anthropic's messages, with the standard library alone.

What it tells and does stands in its journal first, under an id made of the number of the model's answer. An attempt that
follows a crash says and does the same again, and the gateway, which knows the ids, takes each of them once.
"""

import json
import os
import threading
import time
from http.client import HTTPException
from urllib.request import Request, urlopen

ENV, TURN = os.environ, os.environ["TURN_ID"]
TOOLS = {  # what each takes, all texts; `ask` and `artifact` (a file for the user) are done here, the others in the sandbox
    "bash": ["command"], "read": ["path"], "write": ["path", "content"], "edit": ["path", "old", "new"], "ls": ["path"],
    "glob": ["pattern"], "grep": ["pattern"], "ask": ["question"], "artifact": ["name", "text"],
}  # fmt: skip
SCHEMAS = {n: {"type": "object", "properties": {p: {"type": "string"} for p in TOOLS[n]}, "required": TOOLS[n]} for n in TOOLS}
SYSTEM = "You are a helpful agent. Your tools work in /workspace."
CATEGORIES = {401: "auth_error", 403: "permission_denied", 404: "model_not_found", 429: "rate_limit"}
RECORDS = []  # the journal: each has `turn` and some of user, answer, result, event


def request(url, body, headers):
    data = None if body is None else json.dumps(body).encode()
    return urlopen(Request(url, data, {"Content-Type": "application/json", **headers}))


def call(path, body=None):
    """Ask the gateway (GET where there is no body) until it answers: nothing is done twice."""
    while True:
        try:
            url, headers = ENV["RUNTIME_API_URL"] + "/runtime/v1" + path, {"Authorization": "Bearer " + ENV["TURN_TOKEN"]}
            with request(url, body, headers) as answer:
                return json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            code = getattr(error, "code", 503)
            if code == 409:  # the turn has ended, or another attempt has it
                os._exit(0)
            if code != 503:
                raise SystemExit(f"{path}: {code} {error.read().decode()}") from error
            time.sleep(0.5)


def note(**record):
    RECORDS.append({"turn": TURN, **record})
    JOURNAL.write(json.dumps(RECORDS[-1]).encode() + b"\n")
    JOURNAL.flush()


def tell(id, type, fields, **more):
    """An event; `more` goes into its record of the journal."""
    note(event={"id": id, "type": type, **fields}, **more)
    call("/events", {"events": [RECORDS[-1]["event"]]})


def all_of(key, turn=TURN):
    return [record[key] for record in RECORDS if key in record and turn in (None, record["turn"])]


def pending():
    """The calls of the model's last answer that have no result."""
    done = [result["id"] for result in all_of("result", None)]
    return [one for answer in all_of("answer", None)[-1:] for one in answer["calls"] if one["id"] not in done]


def beat():
    """Say every second that it lives, however long a model or a command takes. A cancel ends it."""
    while {"type": "cancel"} not in call("/heartbeat", {})["control"]:
        time.sleep(1)
    call("/events", {"events": [{"id": "canceled", "type": "done", "yield_reason": "canceled"}]})
    os._exit(0)


def main(turn):
    threading.Thread(target=beat, daemon=True).start()
    if not all_of("user"):
        for one in pending():  # of a turn that was stopped
            note(result={"id": one["id"], "output": "The turn ended first."})
        note(user=turn["prompt"])
    for event in all_of("event"):  # of an attempt before this one
        call("/events", {"events": [event]})
    while not any(event["type"] in ("ask", "done") for event in all_of("event")):
        if todo := pending():
            act(**todo[0])
            continue
        for asked in call("/heartbeat", {})["control"]:
            if asked["type"] == "steer" and asked["id"] not in [event.get("steer") for event in all_of("event")]:
                tell("steer." + asked["id"], "steered", {"steer": asked["id"]}, user=asked["text"])
        last = [record for record in RECORDS if "user" in record or "answer" in record][-1]
        think(turn) if "user" in last or last["answer"]["calls"] else tell("done", "done", {})


def act(id, name, input):
    if any(key not in input for key in TOOLS.get(name, [""])):
        note(result={"id": id, "output": f"The tools are, with what they take: {TOOLS}"})
    elif name == "ask":
        tell(id, "ask", {"question": str(input["question"])}, result={"id": id, "output": "The answer comes next."})
    elif name == "artifact":
        told = {"name": str(input["name"]), "parts": [{"text": str(input["text"])}]}
        tell(id, "artifact", told, result={"id": id, "output": "The user has it."})
    else:
        if name == "edit":
            input = {"path": input["path"], "edits": [{"old": input["old"], "new": input["new"]}]}
        note(result={"id": id, **call("/sandbox/call", {"call_id": id, "tool": name, "input": input})})


def think(turn):
    """Have the model answer and tell its text as it comes, but for what was told before a break and is said again."""
    step, speak = len(all_of("answer")), anthropic if turn["provider"] == "anthropic" else openai
    for pause in (1, 2, 4, 0):
        told, text, answer = "".join(e["text"] for e in all_of("event") if e["id"].startswith(f"{step}.")), "", {"calls": {}}
        try:
            for piece in filter(None, speak(turn, answer)):
                text += piece
                if not told.startswith(text):
                    text = text if text.startswith(told) else f"{told}\n\n{text}"
                    tell(f"{step}.{len(told)}", "chunk", {"text": text[len(told) :]})
                    told = text
            made = [(name, json.loads(given or "{}")) for name, given in answer["calls"].values()]
            calls = [{"id": f"{TURN[-12:]}_{step}_{n}", "name": name, "input": given} for n, (name, given) in enumerate(made)]
            return tell(f"usage.{step}", "usage", answer["used"], answer={"text": told, "calls": calls})
        except (OSError, HTTPException, LookupError, ValueError) as error:  # an answer that breaks off has no `used`
            code, said = getattr(error, "code", 503), repr(error)
            if code < 500 and code != 429:
                break
            time.sleep(pause)
    category = CATEGORIES.get(code, "upstream_api_error" if code >= 500 else "invalid_request")
    return tell("done", "done", {"yield_reason": "failed", "error": {"category": category, "text": said}})


def stream(url, body, headers):
    with request(url, {**body, "model": ENV["MODEL"].partition("/")[2], "stream": True}, headers) as lines:
        yield from (json.loads(line[5:]) for line in lines if line.startswith(b"data: {"))


def conversation(answer, result):
    words = {"answer": answer, "result": result, "user": lambda text: {"role": "user", "content": text}}
    return [words[key](record[key]) for record in RECORDS for key in words if key in record]


def openai(turn, answer):
    """The text of an answer in pieces; `answer` gets its calls and, at its end, what it used."""

    def said(it):
        functions = [{"name": one["name"], "arguments": json.dumps(one["input"])} for one in it["calls"]]
        calls = [{"id": one["id"], "type": "function", "function": functions[n]} for n, one in enumerate(it["calls"])]
        return {"role": "assistant", "content": it["text"], **({"tool_calls": calls} if calls else {})}

    messages = conversation(said, lambda it: {"role": "tool", "tool_call_id": it["id"], "content": it["output"]})
    tools = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in TOOLS]
    system = {"role": "system", "content": turn["system_prompt"] or SYSTEM}
    body = {"messages": [system, *messages], "tools": tools, "stream_options": {"include_usage": True}}
    url = ENV.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
    for data in stream(url, body, {"Authorization": "Bearer " + ENV.get("OPENAI_API_KEY", "")}):
        for choice in data["choices"]:
            for one in choice["delta"].get("tool_calls") or []:
                made = answer["calls"].setdefault(one["index"], ["", ""])
                made[:] = made[0] + (one["function"].get("name") or ""), made[1] + (one["function"].get("arguments") or "")
            yield choice["delta"].get("content")
            answer |= {"used": {}} if choice.get("finish_reason") else {}
        if used := data.get("usage"):
            answer["used"] = {"input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"]}


def anthropic(turn, answer):
    def said(it):
        text = [{"type": "text", "text": it["text"]}] if it["text"] else []
        return {"role": "assistant", "content": text + [{"type": "tool_use", **one} for one in it["calls"]]}

    def result(it):
        return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": it["id"], "content": it["output"]}]}

    tools, system, used = [{"name": name, "input_schema": SCHEMAS[name]} for name in TOOLS], turn["system_prompt"] or SYSTEM, {}
    body = {"system": system, "messages": conversation(said, result), "tools": tools, "max_tokens": 16384}
    url = ENV.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com") + "/v1/messages"
    for data in stream(url, body, {"x-api-key": ENV.get("ANTHROPIC_API_KEY", ""), "anthropic-version": "2023-06-01"}):
        block, delta = data.get("content_block", {}), data.get("delta", {})
        if block.get("type") == "tool_use":
            answer["calls"][data["index"]] = [block["name"], ""]
        if "partial_json" in delta:
            answer["calls"][data["index"]][1] += delta["partial_json"]
        yield delta.get("text")
        used |= data.get("message", {}).get("usage", {}) | data.get("usage", {})
        if delta.get("stop_reason"):
            answer["used"] = {key: used.get(key, 0) for key in ("input_tokens", "output_tokens")}


with open(os.path.join(ENV["JOURNAL_DIR"], "journal.jsonl"), "ab+") as JOURNAL:
    JOURNAL.seek(0)
    written, newline, _ = JOURNAL.read().rpartition(b"\n")  # the last line may have been cut
    JOURNAL.truncate(len(written + newline))
    RECORDS += map(json.loads, written.splitlines())
    main(call("/turn"))
