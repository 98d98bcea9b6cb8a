"""Asks all sidecars through one node, and answers the others.

The node is one that this sidecar and, as far as discovery tells, every other one hears. NUMSUB on
it, sent just before the question, tells how many sidecars will hear the question: a sidecar of an
older build does not subscribe and is not waited for, nor is one that has crashed.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import trio

from fanout.config import SidecarConfig
from fanout.core.census import Questions, Table, count, pieces
from fanout.core.in_flight import Answer
from fanout.core.membership import Membership
from fanout.core.placement import place
from fanout.core.subscriptions import Line
from fanout.runtime.redis.link import OnAnswer
from fanout.values.control import CensusQuestion
from fanout.values.names import CENSUS_CHANNEL, CENSUS_INBOX_PREFIX, Kind, NodeId, SidecarId
from fanout.values.requests import Question
from fanout.wire.census import decode_answer, decode_question, encode_answer, encode_question
from fanout.wire.redis.client import pack

TIMEOUT_SECONDS = 0.5
"""How long a sidecar that does not answer is waited for."""


class CensusNode(Protocol):
    """What is asked of a node."""

    @property
    def line(self) -> Line | None:
        """What this sidecar is subscribed to there."""

    def control(self, command: bytes, on_answer: OnAnswer = ...) -> None:
        """Send a command on the control connection; nothing when there is none."""


class Owner(Protocol):
    """What is asked of the hub."""

    config: SidecarConfig
    membership: Membership

    @property
    def dispatch(self) -> Table:
        """Who subscribes to what here."""

    @property
    def active(self) -> Mapping[NodeId, CensusNode]:
        """The nodes that carry publishes."""

    def deadline_moved(self) -> None:
        """Have the deadlines looked at anew."""


class Census:
    """One sidecar's part in counting the clients of all."""

    def __init__(self, hub: Owner) -> None:
        self._hub = hub
        self._sidecar = SidecarId(hub.config.id)
        self._inbox = CENSUS_INBOX_PREFIX + hub.config.id.encode()
        self._questions = Questions(timeout_seconds=TIMEOUT_SECONDS)
        self.channels = (CENSUS_CHANNEL, self._inbox)
        """What this sidecar subscribes to for it."""

    def ask(self, question: Question, done: Callable[[Mapping[bytes, int]], None]) -> None:
        """Count clients in the whole fleet; `done` is called once, now or soon."""
        own = count(self._hub.dispatch, question)
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
        self._hub.deadline_moved()

    def on_message(self, node: CensusNode, channel: bytes, payload: bytes) -> None:
        """Take a question of another sidecar, or a part of an answer to ours."""
        if channel == self._inbox:
            answer = decode_answer(payload)
            if answer is not None:
                self._questions.answered(answer)
            return
        asked = decode_question(payload)
        if asked is None or asked.sidecar == self._sidecar:
            return
        inbox = CENSUS_INBOX_PREFIX + asked.sidecar.encode()
        counts = count(self._hub.dispatch, asked.question)
        for part in encode_answer(self._sidecar, asked.number, counts):
            node.control(pack(b"PUBLISH", inbox, part))

    def expire(self, now: float) -> None:
        """Settle the questions whose time is over."""
        self._questions.expire(now)

    def next_deadline(self) -> float:
        """Return when `expire` has something to do; infinity when idle."""
        return self._questions.next_deadline()

    def _heard(self, number: int, answer: Answer) -> None:
        """Take the node's count of those who hear the question; we are among them."""
        known = isinstance(answer, list) and len(answer) == 2 and type(answer[1]) is int  # noqa: PLR2004
        self._questions.heard(number, answer[1] - 1 if known else 0)

    def _node(self) -> CensusNode | None:
        """Choose the node that most sidecars hear, among those that we hear."""
        heard = {
            name: node
            for name, node in self._hub.active.items()
            if node.line is not None and node.line.has(Kind.CHANNEL, CENSUS_CHANNEL)
        }
        if not heard:
            return None
        deaf = dict.fromkeys(heard, 0)
        for record in self._hub.membership.sidecars.values():
            for name in heard:
                deaf[name] += name in record.deaf
        least = min(deaf.values())
        chosen = place(self._inbox, [name for name in heard if deaf[name] == least]).publish
        assert chosen is not None  # noqa: S101 - there is at least one
        return heard[chosen]
