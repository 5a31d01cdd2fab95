"""Images that speak otherwise than the reference runtime: to a model by another API, to the sandbox by MCP.

Each is the reference runtime with other words in it.
"""

from __future__ import annotations

_OPENAI = "def openai(system, answer):"
_RESPONSES = """def openai(system, answer):
    items = []
    for it in all_of("said", None):
        if it["role"] == "tool":
            items.append({"type": "function_call_output", "call_id": it["tool_call_id"], "output": it["content"]})
        elif it["role"] == "user":
            items.append({"role": "user", "content": it["content"]})
        elif it["content"]:
            items.append({"role": "assistant", "content": [{"type": "output_text", "text": it["content"]}]})
        for one in it.get("tool_calls", []):
            items.append({"type": "function_call", "call_id": one["id"], **one["function"]})
    tools = [{"type": "function", "name": tool["name"], "parameters": tool["inputSchema"]} for tool in TOOLS]
    for data in stream("OPENAI", "/responses", input=items, instructions=system, tools=tools, store=False):
        if data["type"] == "response.output_text.delta":
            yield data["delta"]
        if data["type"] == "response.output_item.done" and data["item"]["type"] == "function_call":
            answer["calls"][data["output_index"]] = {key: data["item"][key] for key in ("name", "arguments")}
        if data["type"] == "response.completed":
            answer["used"] = {key: data["response"]["usage"][key] for key in ("input_tokens", "output_tokens")}

"""
_GEMINI = """def gemini(system, answer):
    names, contents = {}, []
    for it in all_of("said", None):
        parts = [{"text": it["content"]}] if it["content"] and it["role"] != "tool" else []
        if it["role"] == "tool":
            done = {"name": names[it["tool_call_id"]], "response": {"output": it["content"]}}
            parts = [{"functionResponse": done}]
        for one in it.get("tool_calls", []):
            names[one["id"]] = one["function"]["name"]
            made = {"name": one["function"]["name"], "args": json.loads(one["function"]["arguments"])}
            parts.append({"functionCall": made})
        contents.append({"role": "model" if it["role"] == "assistant" else "user", "parts": parts})
    declared = [{"name": tool["name"], "parametersJsonSchema": tool["inputSchema"]} for tool in TOOLS]
    body = {"contents": contents, "tools": [{"functionDeclarations": declared}]}
    url = ENV["GOOGLE_GEMINI_BASE_URL"] + "/v1beta/models/" + ENV["MODEL"].partition("/")[2]
    headers = {"Content-Type": "application/json", "x-goog-api-key": ENV["GEMINI_API_KEY"]}
    with urlopen(Request(url + ":streamGenerateContent?alt=sse", json.dumps(body).encode(), headers)) as lines:
        for data in (json.loads(line[5:]) for line in lines if line.startswith(b"data: ")):
            [candidate] = data["candidates"]
            for part in candidate["content"]["parts"]:
                if made := part.get("functionCall"):
                    answer["calls"][len(answer["calls"])] = {"name": made["name"], "arguments": json.dumps(made["args"])}
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
_THINK = "def think("
SPEAKING: dict[str, list[tuple[str, str]]] = {
    "responses": [(_OPENAI, _RESPONSES + "def chat(system, answer):")],
    "gemini": [(_OPENAI, _GEMINI + _OPENAI), ('if turn["provider"] == "anthropic" else openai', "if not turn else gemini")],
    "mcp": [(_THINK, _MCP + _THINK), (_BY_HTTP, 'by_mcp(name, input, {"switchboard/call_id": id})')],
    "mcp-without-ids": [(_THINK, _MCP + _THINK), (_BY_HTTP, "by_mcp(name, input, {})")],
}
