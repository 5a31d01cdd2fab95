"""The A2A extension under which tool events are told to machines. Its document: specs/tool-events.md."""

TOOL_EVENTS = "https://switchboard.dev/extensions/tool-events/v1"
