"""The event log of the fleet: events are logged, and the latest are kept for the live feed."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs
import structlog
import trio

from fanout.notice import Notice
from fanout.runtime.process.logs import shown

log = structlog.get_logger()

KEPT = 100
"""Events that are kept, plus as many debug events, so that frequent ones never displace others."""


@attrs.frozen
class FleetEvent:
    """One event; `facts` are numbers, and texts escaped as in the log."""

    number: int  # from 1, since the sidecar started
    at: float  # trio's clock
    level: str
    event: str
    facts: dict[str, Any]


class MemberLog:
    """Logs and keeps events of nodes, sidecars, discovery and slow clients."""

    def __init__(self) -> None:
        self._rare: deque[FleetEvent] = deque(maxlen=KEPT)
        self._often: deque[FleetEvent] = deque(maxlen=KEPT)
        self._number = 0
        self.noted = Notice()
        """Set when an event was added."""

    def debug(self, event: str, **facts: object) -> None:
        """Log and keep a frequent event, at level debug."""
        log.debug(event, **facts)
        self.keep("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Log and keep an event, at level info."""
        log.info(event, **facts)
        self.keep("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Log and keep an event, at level warning."""
        log.warning(event, **facts)
        self.keep("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Log and keep an event that needs action, at level error."""
        log.error(event, **facts)
        self.keep("error", event, facts)

    def keep(self, level: str, event: str, facts: dict[str, Any]) -> None:
        """Keep an event that was logged by the caller."""
        self._number += 1
        safe = {key: shown(fact) if isinstance(fact, str) else fact for key, fact in facts.items()}
        kept = self._often if level == "debug" else self._rare
        kept.append(FleetEvent(self._number, trio.current_time(), level, event, safe))
        self.noted.set()

    def since(self, number: int) -> Iterator[FleetEvent]:
        """Return the kept events after a number, oldest first."""
        kept = sorted((*self._rare, *self._often), key=lambda each: each.number)
        return (each for each in kept if each.number > number)
