"""The reference runtime: drives models by OpenAI's chat completions or Anthropic's messages, with the standard library alone.

What it tells and does stands in its journal first, under an id made of the number of the model's answer. An attempt that
follows a crash says and does the same again, and the gateway, which knows the ids, takes each of them once.
"""

import json
import os
import threading
import time
from urllib.request import Request, urlopen

ENV, TURN, TEXT = os.environ, os.environ["TURN_ID"], {"type": "string"}
OWN = {"ask": {"question": TEXT}, "artifact": {"name": TEXT, "text": TEXT}}  # tools beside the sandbox's: a question, a file
TOOLS = [{"name": n, "inputSchema": {"type": "object", "properties": OWN[n], "required": [*OWN[n]]}} for n in OWN]
CATEGORIES = {401: "auth_error", 403: "permission_denied", 404: "model_not_found", 429: "rate_limit", 500: "upstream_api_error"}
RECORDS = []  # the journal: each has `turn` and `event`, or `said` (a message as OpenAI has it), or both

def call(path, body=None):  # asks the gateway (GET where there is no body) until it answers: nothing is done twice
    url, data = ENV["RUNTIME_API_URL"] + "/runtime/v1" + path, None if body is None else json.dumps(body).encode()
    while True:
        try:
            with urlopen(Request(url, data, {"Authorization": "Bearer " + ENV["TURN_TOKEN"]})) as answer:
                return json.load(answer)
        except Exception as error:
            if (code := getattr(error, "code", 503)) == 409:  # the turn has ended, or another attempt has it
                os._exit(0)
            if code != 503:
                raise SystemExit(f"{path}: {code} {error.read().decode()}") from error
            time.sleep(0.5)

def note(**record):  # into the journal first; then its event is told
    RECORDS.append({"turn": TURN, **record})
    print(json.dumps(RECORDS[-1]), file=JOURNAL, flush=True)
    if "event" in record:
        call("/events", {"events": [record["event"]]})

def all_of(key, turn=TURN):
    return [record[key] for record in RECORDS if key in record and turn in (None, record["turn"])]

def pending():  # the calls of the model that have no result
    done = [it.get("tool_call_id") for it in all_of("said", None)]
    return [one for it in all_of("said", None) for one in it.get("tool_calls", []) if one["id"] not in done]

def beat():  # tells every second that it lives, however long a model or a command takes; a cancel ends it
    while {"type": "cancel"} not in call("/heartbeat", {})["control"]:
        time.sleep(1)
    call("/events", {"events": [{"id": "canceled", "type": "done", "yield_reason": "canceled"}]})
    os._exit(0)

def main(turn):
    threading.Thread(target=beat, daemon=True).start()
    TOOLS.extend(call("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})["result"]["tools"])
    if "user" not in [it["role"] for it in all_of("said")]:
        for one in pending():  # of a turn that was stopped
            note(said={"role": "tool", "tool_call_id": one["id"], "content": "The turn ended first."})
        note(said={"role": "user", "content": turn["prompt"]})
    for event in all_of("event"):  # of an attempt before this one
        call("/events", {"events": [event]})
    while not any(event["type"] in ("ask", "done") for event in all_of("event")):
        if todo := pending():
            act(todo[0]["id"], todo[0]["function"]["name"], json.loads(todo[0]["function"]["arguments"]))
            continue
        for asked in call("/heartbeat", {})["control"]:
            if asked["type"] == "steer" and asked["id"] not in [event.get("steer") for event in all_of("event")]:
                event = {"id": "steer." + asked["id"], "type": "steered", "steer": asked["id"]}
                note(said={"role": "user", "content": asked["text"]}, event=event)
        think(turn) if all_of("said")[-1]["role"] != "assistant" else note(event={"id": "done", "type": "done"})

def act(id, name, input):
    said = {"role": "tool", "tool_call_id": id, "content": "The user has it."}
    name = name[:255] or "none"  # whatever the model calls for
    texts = [str(input.get(key)) for key in OWN.get(name, [])]
    if name == "ask":
        note(said=said, event={"id": id, "type": "ask", "question": texts[0]})
    elif name == "artifact":
        note(said=said, event={"id": id, "type": "artifact", "name": texts[0], "parts": [{"text": texts[1]}]})
    else:
        note(said={**said, "content": call("/sandbox/call", {"call_id": id, "tool": name, "input": input})["output"]})

def think(turn, pauses=(1, 2, 4)):  # tells the model's text as it comes, but for what was told before a break and is said again
    step, speak = [e["type"] for e in all_of("event")].count("usage"), anthropic if turn["provider"] == "anthropic" else openai
    told, text, answer = "".join(e["text"] for e in all_of("event") if e["id"].startswith(f"{step}.")), "", {"calls": {}}
    try:
        for piece in filter(None, speak(turn["system_prompt"] or "Your tools work in /workspace.", answer)):
            text += piece
            if not told.startswith(text):
                text = text if text.startswith(told) else f"{told}\n\n{text}"
                note(event={"id": f"{step}.{len(told)}", "type": "chunk", "text": text[len(told) :]})
                told = text
        made = [{**it, "arguments": json.dumps(dict(json.loads(it["arguments"] or "{}")))} for it in answer["calls"].values()]
        calls = [{"id": f"{TURN[-12:]}_{step}_{n}", "type": "function", "function": one} for n, one in enumerate(made)]
        said = {"role": "assistant", "content": told} | ({"tool_calls": calls} if calls else {})
        note(said=said, event={"id": f"usage.{step}", "type": "usage", **answer["used"]})
    except Exception as error:  # an answer that breaks off has no `used`
        code = getattr(error, "code", 503)
        if pauses and (code >= 500 or code == 429):
            time.sleep(pauses[0])
            return think(turn, pauses[1:])
        error = {"category": CATEGORIES.get(min(code, 500), "invalid_request"), "text": repr(error)}
        note(event={"id": "done", "type": "done", "yield_reason": "failed", "error": error})

def stream(provider, path, **body):  # the gateway adds the key on the way
    data = json.dumps({**body, "model": ENV["MODEL"].partition("/")[2], "stream": True}).encode()
    headers = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    with urlopen(Request(ENV[provider + "_BASE_URL"] + path, data, headers)) as lines:
        yield from (json.loads(line[5:]) for line in lines if line.startswith(b"data: {"))

def openai(system, answer):  # the text of an answer in pieces; `answer` gets its calls and, at its end, what it used
    said = [{"role": "system", "content": system}, *all_of("said", None)]
    tools = [{"type": "function", "function": {"name": tool["name"], "parameters": tool["inputSchema"]}} for tool in TOOLS]
    for data in stream("OPENAI", "/chat/completions", messages=said, tools=tools, stream_options={"include_usage": True}):
        for choice in data["choices"]:
            for one in choice["delta"].get("tool_calls") or []:
                made = answer["calls"].setdefault(one["index"], {"name": "", "arguments": ""})
                made |= {key: made[key] + (one["function"].get(key) or "") for key in made}
            yield choice["delta"].get("content")
            answer |= {"used": {}} if choice.get("finish_reason") else {}
        if used := data.get("usage"):
            answer["used"] = {"input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"]}

def anthropic(system, answer):
    messages, used = [], {}
    for it in all_of("said", None):
        content = [{"type": "text", "text": it["content"]}] if it["content"] else []
        if it["role"] == "tool":
            content = [{"type": "tool_result", "tool_use_id": it["tool_call_id"], "content": it["content"]}]
        for one in it.get("tool_calls", []):
            made = {"name": one["function"]["name"], "input": json.loads(one["function"]["arguments"])}
            content.append({"type": "tool_use", "id": one["id"], **made})
        messages.append({"role": "assistant" if it["role"] == "assistant" else "user", "content": content})
    tools = [{"name": tool["name"], "input_schema": tool["inputSchema"]} for tool in TOOLS]
    for data in stream("ANTHROPIC", "/v1/messages", system=system, messages=messages, tools=tools, max_tokens=16384):
        block, delta = data.get("content_block", {}), data.get("delta", {})
        if block.get("type") == "tool_use":
            answer["calls"][data["index"]] = {"name": block["name"], "arguments": ""}
        if "partial_json" in delta:
            answer["calls"][data["index"]]["arguments"] += delta["partial_json"]
        yield delta.get("text")
        used |= data.get("message", {}).get("usage", {}) | data.get("usage", {})
        if delta.get("stop_reason"):
            answer["used"] = {key: used.get(key, 0) for key in ("input_tokens", "output_tokens")}

with open(os.path.join(ENV["JOURNAL_DIR"], "journal.jsonl"), "a+", encoding="ascii") as JOURNAL:
    JOURNAL.seek(0)
    written, newline, _ = JOURNAL.read().rpartition("\n")  # the last line may have been cut
    JOURNAL.truncate(len(written + newline))
    RECORDS += map(json.loads, written.splitlines())
    main(call("/turn"))
