"""What happens to the fleet: each fact is logged, and the latest are kept for who looks later."""

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
"""Facts that are remembered; as many again of what comes often, so that it pushes out nothing rare."""


@attrs.frozen
class FleetEvent:
    """One fact; `facts` are texts and numbers, texts as a log shows them."""

    number: int  # from 1, in the life of the sidecar
    at: float  # trio's clock
    level: str
    event: str
    facts: dict[str, Any]


class MemberLog:
    """Logs what happens to nodes, sidecars, discovery and slow consumers, and remembers it."""

    def __init__(self) -> None:
        self._rare: deque[FleetEvent] = deque(maxlen=KEPT)
        self._often: deque[FleetEvent] = deque(maxlen=KEPT)
        self._number = 0
        self.noted = Notice()
        """Set when one more event is remembered."""

    def debug(self, event: str, **facts: object) -> None:
        """Tell a fact that comes too often for a log that nobody asked to be long."""
        log.debug(event, **facts)
        self.keep("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Tell a fact."""
        log.info(event, **facts)
        self.keep("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Tell a fact that somebody should know of."""
        log.warning(event, **facts)
        self.keep("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Tell a fact that somebody must do something about."""
        log.error(event, **facts)
        self.keep("error", event, facts)

    def keep(self, level: str, event: str, facts: dict[str, Any]) -> None:
        """Remember what was logged elsewhere."""
        self._number += 1
        safe = {key: shown(fact) if isinstance(fact, str) else fact for key, fact in facts.items()}
        kept = self._often if level == "debug" else self._rare
        kept.append(FleetEvent(self._number, trio.current_time(), level, event, safe))
        self.noted.set()

    def since(self, number: int) -> Iterator[FleetEvent]:
        """Yield what is remembered of all that came behind a number, oldest first."""
        kept = sorted((*self._rare, *self._often), key=lambda each: each.number)
        return (each for each in kept if each.number > number)
