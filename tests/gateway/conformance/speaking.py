"""Images that speak otherwise than the reference runtime: to a model by another API, to the sandbox by MCP.

Each is the reference runtime with other words in it.
"""

from __future__ import annotations

_OPENAI = "def openai(turn, answer):\n"
_RESPONSES = """def openai(turn, answer):
    def said(it):
        text = [{"role": "assistant", "content": [{"type": "output_text", "text": it["text"]}]}] if it["text"] else []
        made = [{"call_id": one["id"], "name": one["name"], "arguments": json.dumps(one["input"])} for one in it["calls"]]
        return text + [{"type": "function_call", **one} for one in made]

    def result(it):
        return [{"type": "function_call_output", "call_id": it["id"], "output": it["output"]}]

    items = [item for one in conversation(said, result) for item in (one if isinstance(one, list) else [one])]
    tools = [{"type": "function", "name": name, "parameters": SCHEMAS[name]} for name in TOOLS]
    body = {"input": items, "instructions": turn["system_prompt"] or SYSTEM, "tools": tools, "store": False}
    for data in stream(ENV["OPENAI_BASE_URL"] + "/responses", body, {"Authorization": "Bearer " + ENV["OPENAI_API_KEY"]}):
        if data["type"] == "response.output_text.delta":
            yield data["delta"]
        if data["type"] == "response.output_item.done" and data["item"]["type"] == "function_call":
            answer["calls"][data["output_index"]] = [data["item"]["name"], data["item"]["arguments"]]
        if data["type"] == "response.completed":
            answer["used"] = {key: data["response"]["usage"][key] for key in ("input_tokens", "output_tokens")}


"""
_GEMINI = """def gemini(turn, answer):
    names = {one["id"]: one["name"] for answer in all_of("answer", None) for one in answer["calls"]}

    def said(it):
        text = [{"text": it["text"]}] if it["text"] else []
        calls = [{"functionCall": {"name": one["name"], "args": one["input"]}} for one in it["calls"]]
        return {"role": "model", "parts": text + calls}

    def result(it):
        part = {"functionResponse": {"name": names[it["id"]], "response": {"output": it["output"]}}}
        return {"role": "user", "parts": [part]}

    spoken = conversation(said, result)
    contents = [one if "parts" in one else {"role": "user", "parts": [{"text": one["content"]}]} for one in spoken]
    declared = [{"name": name, "parametersJsonSchema": SCHEMAS[name]} for name in TOOLS]
    body = {"contents": contents, "tools": [{"functionDeclarations": declared}]}
    url = ENV["GOOGLE_GEMINI_BASE_URL"] + "/v1beta/models/" + ENV["MODEL"].partition("/")[2]
    with request(url + ":streamGenerateContent?alt=sse", body, {"x-goog-api-key": ENV["GEMINI_API_KEY"]}) as lines:
        for data in (json.loads(line[5:]) for line in lines if line.startswith(b"data: ")):
            [candidate] = data["candidates"]
            for part in candidate["content"]["parts"]:
                if made := part.get("functionCall"):
                    answer["calls"][len(answer["calls"])] = [made["name"], json.dumps(made["args"])]
                yield part.get("text")
            if candidate.get("finishReason"):
                used = data["usageMetadata"]
                answer["used"] = {"input_tokens": used["promptTokenCount"], "output_tokens": used["candidatesTokenCount"]}


"""
_BY_HTTP = 'call("/sandbox/call", {"call_id": id, "tool": name, "input": input})'
_MCP = """def by_mcp(name, arguments, about):
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "minimal", "version": "1"}}
    ask = lambda id, method, params: call("/mcp", {"jsonrpc": "2.0", "id": id, "method": method, "params": params})["result"]
    ask(1, "initialize", hello)
    assert name in [tool["name"] for tool in ask(2, "tools/list", {})["tools"]]
    told = ask(3, "tools/call", {"name": name, "arguments": arguments, "_meta": about})
    return {"output": told["content"][0]["text"]}


"""
_THINK = "def think(turn):\n"
SPEAKING: dict[str, list[tuple[str, str]]] = {
    "responses": [(_OPENAI, _RESPONSES + "def chat(turn, answer):\n")],
    "gemini": [(_OPENAI, _GEMINI + _OPENAI), ('if turn["provider"] == "anthropic" else openai', "if not turn else gemini")],
    "mcp": [(_THINK, _MCP + _THINK), (_BY_HTTP, 'by_mcp(name, input, {"switchboard/call_id": id})')],
    "mcp-without-ids": [(_THINK, _MCP + _THINK), (_BY_HTTP, "by_mcp(name, input, {})")],
}
