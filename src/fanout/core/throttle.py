"""A throttle for log events: a flood of requests must not flood the log as well."""

from collections.abc import Hashable

import attrs

BURST = 10
"""Events of a kind that may pass at once after idle time."""

INTERVAL_SECONDS = 1.0
"""The time between events that pass in the long run."""


@attrs.define(slots=True)
class _Kind:
    due: float = float("-inf")
    held_back: int = 0


class Throttle:
    """Lets a few events of each kind pass, and counts the others for the next one that passes.

    Kinds are defined in the code, never by a client, so there are few.
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}

    def admit(self, kind: Hashable, now: float) -> int | None:
        """Return how many events were held back before this one; None to hold this one back."""
        state = self._kinds.setdefault(kind, _Kind())
        due = max(state.due, now - (BURST - 1) * INTERVAL_SECONDS)
        if due > now:
            state.held_back += 1
            return None
        state.due = due + INTERVAL_SECONDS
        held_back, state.held_back = state.held_back, 0
        return held_back
