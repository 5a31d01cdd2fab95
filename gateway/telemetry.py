"""Logging: one wide line per turn, fixed `event` names, facts as fields. Pretty on a terminal, JSON elsewhere.

No prompts and no secrets are logged. What libraries log through `logging` takes the same form.
"""

from __future__ import annotations

import logging
import sys

import structlog

from gateway.settings import Settings

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(settings: Settings) -> None:
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Tracebacks without local variables: those may hold prompts and opened secrets.
    formats: list[structlog.typing.Processor] = [
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    ]
    if as_json:
        bare = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        formats = [structlog.processors.ExceptionRenderer(bare), structlog.processors.JSONRenderer(ensure_ascii=False)]
    structlog.configure(
        processors=[*_SHARED, *formats],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=[remove, *formats]))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
