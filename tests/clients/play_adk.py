"""Google's ADK with a remote agent: `play_adk.py CARD_URL`. It resolves the card and calls, and goes on with the conversation.

Runs in a virtual environment of its own and knows nothing of this project. Prints what was found as JSON.
"""

import asyncio
import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")  # ADK says of itself that it is experimental

from google.adk.agents.remote_a2a_agent import RemoteA2aAgent  # noqa: E402
from google.adk.events.event import Event  # noqa: E402
from google.adk.runners import InMemoryRunner  # noqa: E402
from google.genai import types  # noqa: E402


async def main(card_url: str) -> None:
    agent = RemoteA2aAgent(name="remote", agent_card=card_url)
    runner = InMemoryRunner(agent=agent, app_name="tests")
    session = await runner.session_service.create_session(app_name="tests", user_id="tester")

    async def say(text: str) -> dict[str, Any]:
        message = types.Content(role="user", parts=[types.Part(text=text)])
        events = [event async for event in runner.run_async(user_id="tester", session_id=session.id, new_message=message)]
        errors = [event.error_message for event in events if event.error_message]
        return {"texts": [found for event in events if (found := texts(event))][-1], "errors": errors}

    said = [await say(text) for text in ("N=2 SLEEPTOOL=0", "N=1", "N=1 FAIL=auth_error", "N=1 ASK", "N=1 yes")]
    print(json.dumps({"description": agent.description, "said": said}))
    await runner.close()


def texts(event: Event) -> list[str]:
    """A question comes as the call of a function that stands for the user."""
    parts = event.content.parts or [] if event.content else []
    return [part.text or str(part.function_call.args) for part in parts if part.text or part.function_call]


asyncio.run(main(*sys.argv[1:]))
