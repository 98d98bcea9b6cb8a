"""The census: counts the clients of all sidecars by a question published on one node.

The node is one that this sidecar and, according to discovery, all other sidecars hear. NUMSUB on
it, sent just before the question, returns how many sidecars will receive the question. A sidecar
of an older build does not subscribe, nor does a crashed one: their answers are not awaited.
"""

from collections.abc import Callable, Mapping
from functools import partial

import trio

from fanout.core.census import Questions, Table, count, pieces
from fanout.core.in_flight import Answer
from fanout.core.placement import place
from fanout.runtime.sidecar.node_link import NodeLink
from fanout.runtime.sidecar.nodes import Nodes
from fanout.values.control import CensusQuestion
from fanout.values.names import CENSUS_CHANNEL, CENSUS_INBOX_PREFIX, Kind, SidecarId
from fanout.values.requests import Question
from fanout.wire.census import decode_answer, decode_question, encode_answer, encode_question
from fanout.wire.redis.client import numsub, pack

TIMEOUT_SECONDS = 0.5
"""How long to wait for the answers of the other sidecars."""


class Census:
    """One sidecar's part in the census.

    Args:
        sidecar: the id of this sidecar.
        table: the subscriptions of the local clients.
        nodes: the links to the nodes.
        on_deadline: called when `next_deadline` may be earlier than before.

    """

    def __init__(
        self, sidecar: SidecarId, table: Table, nodes: Nodes, *, on_deadline: Callable[[], None]
    ) -> None:
        self._sidecar = sidecar
        self._table = table
        self._nodes = nodes
        self._on_deadline = on_deadline
        self._inbox = CENSUS_INBOX_PREFIX + sidecar.encode()
        self._questions = Questions(timeout_seconds=TIMEOUT_SECONDS)
        self.channels = (CENSUS_CHANNEL, self._inbox)
        """The channels that the sidecar must subscribe to."""

    def ask(self, question: Question, done: Callable[[Mapping[bytes, int]], None]) -> None:
        """Count clients in the whole fleet; `done` is called once, now or soon."""
        own = count(self._table, question)
        node = self._node()
        if node is None:
            done(own)
            return
        parts = pieces(question)
        numbers = self._questions.begin(own, len(parts), done, trio.current_time())
        for number, part in zip(numbers, parts, strict=True):
            message = encode_question(CensusQuestion(self._sidecar, number, part))
            node.control(pack(b"PUBSUB", b"NUMSUB", CENSUS_CHANNEL), partial(self._heard, number))
            node.control(pack(b"PUBLISH", CENSUS_CHANNEL, message))
        self._on_deadline()

    def on_message(self, node: NodeLink, channel: bytes, payload: bytes) -> None:
        """Answer a question of another sidecar, or record an answer to this one's question."""
        if channel == self._inbox:
            answer = decode_answer(payload)
            if answer is not None:
                self._questions.answered(answer)
            return
        asked = decode_question(payload)
        if asked is None or asked.sidecar == self._sidecar:
            return
        inbox = CENSUS_INBOX_PREFIX + asked.sidecar.encode()
        counts = count(self._table, asked.question)
        for part in encode_answer(self._sidecar, asked.number, counts):
            node.control(pack(b"PUBLISH", inbox, part))

    def expire(self, now: float) -> None:
        """Settle the questions whose timeout has passed."""
        self._questions.expire(now)

    def next_deadline(self) -> float:
        """Return the earliest deadline for `expire`; infinity when there is none."""
        return self._questions.next_deadline()

    def _heard(self, number: int, answer: Answer) -> None:
        """Record how many sidecars receive the question, without this one."""
        receivers = numsub(answer)
        self._questions.heard(number, receivers - 1 if receivers is not None else 0)

    def _node(self) -> NodeLink | None:
        """Return the link to the node that most sidecars hear, among those heard here."""
        heard = {
            name: node
            for name, node in self._nodes.active.items()
            if node.subscribed is not None and node.subscribed.has(Kind.CHANNEL, CENSUS_CHANNEL)
        }
        incarnations = {name: node.record.incarnation for name, node in heard.items()}
        chosen = place(self._inbox, self._nodes.hearing.best(incarnations, ())).publish
        return heard[chosen] if chosen is not None else None
