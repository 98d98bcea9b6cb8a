"""Gaps: nodes whose messages this sidecar may have missed, until its clients are told."""

from collections.abc import Mapping

from fanout.notice import Notice
from fanout.values.names import NodeId


class Gaps:
    """The latest gap of each node that was not yet taken."""

    def __init__(self) -> None:
        self._reasons: dict[NodeId, str] = {}
        self._noted = Notice()

    def note(self, node: NodeId, reason: str) -> None:
        """Record a gap; replaces an earlier one of the node."""
        self._reasons[node] = reason
        self._noted.set()

    def forget(self) -> None:
        """Forget all gaps, before there are clients to be told of any."""
        self._reasons.clear()

    async def take(self) -> Mapping[NodeId, str]:
        """Wait for gaps; return the reason of each by node, and forget them."""
        while not self._reasons:
            await self._noted.wait(self._noted.count)
        taken, self._reasons = self._reasons, {}
        return taken
