"""Logs: one line per event on stderr, readable on a terminal and JSON elsewhere."""

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
import trio

from fanout.core.throttle import Throttle
from fanout.runtime.process.text import escape

log = structlog.get_logger()

VALUE_CHARACTERS_MAX = 1024
"""The most characters shown of a value: some are untrusted, such as errors from Redis."""

NAME_BYTES_MAX = 64
"""The most bytes shown of a channel name."""


class _StandardError:
    """Standard error; a full disk or a closed pipe drops lines and raises nothing."""

    def write(self, text: str) -> None:
        """Write, ignoring errors."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush, ignoring errors."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logging(level: str, form: str, *further: structlog.typing.Processor) -> None:
    """Set up structlog for this process. `form` is auto, console or json.

    `further` processors see each event before it is written.
    """
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
            _shown,
            *further,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
    )


def _shown(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape and truncate texts: an untrusted one must not end a line or control a terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = shown(value)
    return event


def shown(text: str) -> str:
    """Return a text safe to show: truncated, with unprintable characters escaped."""
    return escape(text[:VALUE_CHARACTERS_MAX])


class FloodLog:
    """A rate-limited log for events that clients can cause at any rate."""

    def __init__(self) -> None:
        self._throttle = Throttle()

    def warning(self, event: str, *, code: str, **values: object) -> bool:
        """Log an event unless its rate, per name and `code`, is too high; return whether it was.

        `suppressed` in the log line counts the events held back before.
        """
        held_back = self._throttle.admit((event, code), trio.current_time())
        if held_back is None:
            return False
        log.warning(event, code=code, **values, suppressed=held_back)
        return True


def printable(name: bytes) -> str:
    """Return a name from a client, such as a channel, escaped and truncated."""
    return ascii(name[:NAME_BYTES_MAX])[2:-1]
