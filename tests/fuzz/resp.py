"""The door for Redis clients: bytes through the decoder and the session of one client."""

from typing import Any

from fanout.errors import RemoteProtocolError
from fanout.values.names import SHARD_PREFIX, Kind, Space
from fanout.values.requests import Action, Ask, Close, Exec, Publish, Reset, Subscribe, Unsubscribe
from fanout.wire.limits import ClientLimits, Patterns
from fanout.wire.redis.client import pack
from fanout.wire.resp.client_state import ClientState
from fanout.wire.resp.requests import UNAUTHENTICATED, RequestDecoder, RequestLimits
from tests.fuzz.given import Given
from tests.support.wire.limits import default_limits, request_limits
from tests.support.wire.resp_values import count_values
from tests.support.wire.sidecar import USERS, LoneSidecar, said

USERS_ON, SMALL, LINES = range(3)
"""Options: clients must log in; limits that are soon reached; requests as lines of words."""

_HEADER_BYTES = 32
_SMALL = RequestLimits(
    arguments_max=8, bulk_bytes_max=100, request_bytes_max=300, inline_bytes_max=40
)
_REPLY_BYTES = 8192
"""The largest reply whose size the client does not choose: COMMAND DOCS."""
_REPLY_BYTES_A_WORD = 2048
"""The largest share that one word of a request has in its reply: COMMAND DOCS client."""


def small_limits() -> ClientLimits:
    """Return limits that a short input reaches."""
    return ClientLimits(
        payload_bytes_max=60,
        channel_bytes_max=20,
        subscriptions_max=4,
        patterns_max=2,
        transaction_bytes_max=2000,
        patterns=Patterns(3),
    )


class RespDoor:
    """What `fanout.runtime.doors.resp_listener` does with the bytes of a client, without a network."""

    def __init__(self, *, users: bool, small: bool, runs: bool = True) -> None:
        self._runs = runs
        self.said: list[tuple[Any, ...]] = []
        self.closing = False
        self._refused = b""
        self._wide = _SMALL if small else request_limits()
        self._sidecar = LoneSidecar(
            users=USERS if users else None, limits=small_limits() if small else default_limits()
        )
        self._limits = self._sidecar.limits
        self._other = self._sidecar.join(1)
        self._session = self._sidecar.join(2)
        self._heads = self._session._heads
        self._decoder = RequestDecoder(self._request_limits())

    def take(self, piece: bytes) -> None:
        """Read a piece and look that nothing is kept beyond the limits."""
        try:
            self._decoder.feed(piece)
            while not self.closing:
                if self._runs and self._session.plain:
                    self._run()
                if (request := self._decoder.next_request()) is None:
                    break
                self._handle(request)
                self._decoder.limits = self._request_limits()
        except RemoteProtocolError as error:
            self._refused = error.reply
            self.said.append(("protocol error", error.reply))
            self.closing = True
        else:
            self._look_at_memory()
        assert not self._refused or count_values(self._refused, resp3=False) == 1

    def end(self) -> tuple[Any, ...]:
        """Close the session and return what it came to."""
        state = self._session.state
        found = (
            *(state.resp3, state.name, state.user, state.last_command),
            [[verb.lower(), *rest] for verb, *rest in state.queue or ()],
            *(state.queue_failed, state.reply_off, self._sidecar.disconnected),
            {space: list(names) for space, names in state.held.items()},
        )
        self._session.close()
        assert not self._limits.patterns, "patterns of a client that is gone are still counted"
        return found

    def _request_limits(self) -> RequestLimits:
        return UNAUTHENTICATED if self._session.locked else self._wide

    def _run(self) -> None:
        """Take messages in a row, and look at what would go to a node as it is."""
        run = self._decoder.publishes(self._session.known, self._heads.lengths)
        if run is None:
            return
        self._session.state.last_command = b"publish"
        assert len(run.channels) == len(run.ends)
        start, access = 0, self._session.access
        for channel, end in zip(run.channels, run.ends, strict=True):
            alone = RequestDecoder(self._wide)
            alone.feed(run.data[start:end])
            request, rest = alone.next_request(), alone.next_request()
            assert request is not None
            assert (request[0].lower(), request[1], rest) == (b"publish", channel, None)
            assert run.data[start:end] == pack(*request)
            publish = Publish(channel, request[2])
            self._look_at_rights(publish, access)
            refusal = self._limits.check_name(channel) or self._limits.check_payload(request[2])
            assert refusal is None
            self.said.append((*shape(publish), b":0\r\n"))
            start = end
        assert start == len(run.data)

    def _handle(self, request: list[bytes]) -> None:
        state = self._session.state
        resp3, silent, access = state.resp3, state.silent, state.access
        action = self._session.handle(request)
        self.closing = isinstance(action, Close)
        reply = said(action)
        self.said.append((*shape(action), reply))
        self._look_at_size(request, action, reply)
        if isinstance(action, Exec):
            assert not action.header or action.header.startswith(b"*%d\r\n" % len(action.actions))
            return  # its parts may count otherwise than its header, and change it: as in Redis
        values = count_values(reply, resp3=resp3 or state.resp3)
        if not reply:
            assert silent or state.silent or request[0].lower() in (b"client", b"reset", b"quit")
        elif isinstance(action, Subscribe | Unsubscribe):
            names = len(request) - 1 or max(1, len(action.names))
            assert values == names
        else:
            assert values == 1
        if isinstance(action, Publish | Subscribe):
            self._look_at_rights(action, access)

    def _look_at_size(self, request: list[bytes], action: Action, reply: bytes) -> None:
        bound = 4 * sum(map(len, request)) + _REPLY_BYTES + _REPLY_BYTES_A_WORD * len(request)
        if isinstance(action, Unsubscribe):  # names all that there are
            bound += sum(len(name) + 64 for name in action.names)
        if isinstance(action, Exec):
            bound += 3 * self._limits.transaction_bytes_max
        assert len(reply) <= bound, f"{len(reply)} bytes answer {request[:3]}"

    def _look_at_rights(self, action: Publish | Subscribe, access: Any) -> None:
        assert not self._session.locked
        if access is None:
            return
        names = (action.channel,) if isinstance(action, Publish) else action.names
        may = access.may_publish if isinstance(action, Publish) else access.may_subscribe
        if isinstance(action, Subscribe) and action.kind is Kind.PATTERN:
            may = access.may_psubscribe
        assert all(may(name.removeprefix(SHARD_PREFIX)) for name in names)

    def _look_at_memory(self) -> None:
        decoder, limits, state = self._decoder, self._decoder.limits, self._session.state
        waiting = len(decoder._buffer) - decoder._at
        if not self.closing:
            assert waiting < max(limits.bulk_bytes_max + 2, limits.inline_bytes_max, _HEADER_BYTES)
        assert len(decoder._arguments) < max(1, limits.arguments_max)
        assert sum(map(len, decoder._arguments)) <= limits.request_bytes_max
        look_at_state(state, self._limits)


def look_at_state(state: ClientState, limits: ClientLimits) -> None:
    """Look that a client holds no more than it may."""
    assert sum(map(len, (word for each in state.queue or () for word in each))) <= min(
        state.queue_bytes, limits.transaction_bytes_max
    )
    for space in Space:
        most = limits.patterns_max if space is Space.PATTERNS else limits.subscriptions_max
        assert len(state.held[space]) <= most
        assert all(len(name) <= limits.channel_bytes_max for name in state.held[space])
    assert len(limits.patterns) <= limits.patterns.distinct_max


def shape(action: Action) -> tuple[Any, ...]:
    """Return what an action asks for, without its reply, in a form that can be compared."""
    match action:
        case Publish(channel, payload, tag):
            return ("publish", channel, payload, tag)
        case Subscribe(kind, names, _, tag):
            return ("subscribe", kind, names, tag)
        case Unsubscribe(kind, names, _):
            return ("unsubscribe", kind, names)
        case Reset(encoding, unsubscribe, _):
            return ("reset", encoding, unsubscribe)
        case Ask(question, _):
            return ("ask", question)
        case Exec(_, actions):
            return ("exec", *map(shape, actions))
        case Close():
            return ("close",)
    return ("reply",)


def resp(data: bytes) -> None:
    """Run one case: whatever the bytes, they are served within limits, however they are cut."""
    given = Given.read(data)
    sent = given.body
    if given.option(LINES):
        lines = filter(None, sent.split(b"\n"))
        sent = b"".join(pack(*line.split(b" ")) for line in lines)
    ends = []
    for pieces, runs in (([sent], True), (given.pieces(sent), True), ([sent], False)):
        door = RespDoor(users=given.option(USERS_ON), small=given.option(SMALL), runs=runs)
        for piece in pieces:
            if not door.closing:
                door.take(piece)
        ends.append((door.said, door.end()))
    assert ends[0] == ends[1], "another cut has another meaning"
    assert ends[0] == ends[2], "messages in a row have another meaning than one by one"
