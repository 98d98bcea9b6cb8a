"""Logs: one line an event on stderr, for people on a terminal and as JSON otherwise."""

import logging
import sys

import structlog

NAME_BYTES_MAX = 64
"""How much of a channel name is shown."""


def configure_logging(level: str, form: str) -> None:
    """Set up structlog for this process. `form` is auto, console or json."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def printable(name: bytes) -> str:
    """Return a channel name that is safe in a log: escaped and cut."""
    return ascii(name[:NAME_BYTES_MAX])[2:-1]
