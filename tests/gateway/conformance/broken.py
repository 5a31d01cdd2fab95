"""Images that break the contract: the reference runtime with one thing changed.

Each change is a text of the reference runtime and what stands in its place.
"""

from __future__ import annotations

_STAYS = "atexit.register(time.sleep, 600)"
_ANEW = 'record["event"]["id"] = ENV["ATTEMPT"] + "." + record["event"]["id"]'
_JUNK = {"events": [{"id": "junk", "type": "junk"}]}
_GIVES_UP = '            if path == "/events":\n                return {}\n'
BROKEN: dict[str, list[tuple[str, str]]] = {
    "ignores-cancel": [('while {"type": "cancel"} not in call("/heartbeat", {})["control"]:', 'while call("/heartbeat", {}):')],
    "never-exits": [
        ('main(call("/turn"))', f'import atexit, signal; signal.signal(15, signal.SIG_IGN); {_STAYS}; main(call("/turn"))'),
    ],
    "names-anew": [  # without a journal, and its events and calls by the number of the attempt
        ("RECORDS += map(json.loads, written.splitlines())", "pass"),
        ('if "event" in record:', f'if "event" in record:\n        {_ANEW}'),
        ('f"{TURN[-12:]}_{step}_{n}"', "f\"{TURN[-12:]}_{ENV['ATTEMPT']}_{step}_{n}\""),
        ('startswith(f"{step}.")', "startswith(f\"{ENV['ATTEMPT']}.{step}.\")"),
    ],
    "ignores-409": [("os._exit(0)\n            if code != 503:", "pass\n            if code not in (409, 503):")],
    "remembers-in-tmp": [('os.path.join(ENV["JOURNAL_DIR"], "journal.jsonl")', '"/tmp/journal.jsonl"')],
    "writes-to-the-root": [('os.path.join(ENV["JOURNAL_DIR"], "journal.jsonl")', '"/var/journal.jsonl"')],
    "exits-with-1": [('else note(event={"id": "done", "type": "done"})', "else os._exit(1)")],
    "waits-for-the-answer": [('"question": texts[0]})', '"question": texts[0]})\n        time.sleep(600)')],
    "ignores-steer": [('if asked["type"] == "steer"', 'if asked["type"] == "nothing"')],
    "sends-junk": [
        ("        time.sleep(1)\n", f"        call('/events', {_JUNK})\n        time.sleep(1)\n"),
        ("            if code != 503:", "            if code == 400:\n                return {}\n            if code != 503:"),
    ],
    "never-beats": [("    threading.Thread(target=beat, daemon=True).start()\n", "")],
    "never-repeats": [("            time.sleep(0.5)\n", _GIVES_UP + "            time.sleep(0.5)\n")],  # what it tells
}  # fmt: skip
