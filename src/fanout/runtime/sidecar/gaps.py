"""Gaps: nodes whose messages may have been missed, kept until the clients are notified."""

from collections.abc import Mapping

from fanout.notice import Notice
from fanout.values.names import NodeId


class Gaps:
    """The latest pending gap of each node."""

    def __init__(self) -> None:
        self._reasons: dict[NodeId, str] = {}
        self._noted = Notice()

    def note(self, node: NodeId, reason: str) -> None:
        """Record a gap; replace an earlier one of the same node."""
        self._reasons[node] = reason
        self._noted.set()

    def forget(self) -> None:
        """Discard all gaps; for a start without clients."""
        self._reasons.clear()

    async def take(self) -> Mapping[NodeId, str]:
        """Wait for gaps; remove them and return the reason for each node."""
        while not self._reasons:
            await self._noted.wait(self._noted.count)
        taken, self._reasons = self._reasons, {}
        return taken
