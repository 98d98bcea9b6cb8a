"""Logs: one line an event on stderr, for people on a terminal and as JSON otherwise."""

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
"""How much is shown of any value: others choose some, such as what a Redis says."""

NAME_BYTES_MAX = 64
"""How much of a channel name is shown."""


class _StandardError:
    """Standard error, but a full disk or a reader that has left costs lines and nothing else."""

    def write(self, text: str) -> None:
        """Write if that can be done."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush if that can be done."""
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
    """Escape and cut texts: what others say must not end a line, or speak to a terminal."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = shown(value)
    return event


def shown(text: str) -> str:
    """Return a text as others may see it: cut, and escaped where it cannot be printed."""
    return escape(text[:VALUE_CHARACTERS_MAX])


class FloodLog:
    """Logs what clients can cause as often as they like: few lines, and how many were held back."""

    def __init__(self) -> None:
        self._throttle = Throttle()

    def warning(self, event: str, *, code: str, **values: object) -> bool:
        """Log an event, unless too many of the same name and `code` were logged of late.

        Returns whether it was logged.
        """
        held_back = self._throttle.admit((event, code), trio.current_time())
        if held_back is None:
            return False
        log.warning(event, code=code, **values, suppressed=held_back)
        return True


def printable(name: bytes) -> str:
    """Return what a client named, such as a channel, safe for a log: escaped and cut."""
    return ascii(name[:NAME_BYTES_MAX])[2:-1]
