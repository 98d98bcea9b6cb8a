"""Which of many equal events are told: whoever floods us must not flood the log as well."""

from collections.abc import Hashable

import attrs

BURST = 10
"""Events of a kind that are told at once after a quiet time."""

INTERVAL_SECONDS = 1.0
"""Between those told in the long run."""


@attrs.define(slots=True)
class _Kind:
    due: float = float("-inf")
    held_back: int = 0


class Throttle:
    """Lets a few events of each kind through, and counts the others for the next one let through.

    Kinds come from the code, never from a client, so there are few of them.
    """

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}

    def admit(self, kind: Hashable, now: float) -> int | None:
        """Take one event; return how many were held back before it, or None to hold it back."""
        state = self._kinds.setdefault(kind, _Kind())
        due = max(state.due, now - (BURST - 1) * INTERVAL_SECONDS)
        if due > now:
            state.held_back += 1
            return None
        state.due = due + INTERVAL_SECONDS
        held_back, state.held_back = state.held_back, 0
        return held_back
