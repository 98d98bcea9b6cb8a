"""A Redis in memory: as much of one as fanout's own connections to it use.

One command runs at a time, replies and deliveries share a bounded output buffer per connection,
and a client that overruns it is disconnected, as in Redis. The tests run one script against this and
against a real redis-server and compare the replies.

Long because a server is one table of commands over one state.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from random import Random

import attrs
import trio

from fanout.core.glob import compile_pattern
from fanout.core.outbox import Outbox
from fanout.errors import RemoteProtocolError
from fanout.runtime.net.sender import Sender
from fanout.runtime.net.transport import CONNECTION_ERRORS, Network, Transport
from fanout.testing.users import User, default_user, make_user
from fanout.values.names import RESERVED_PREFIX, Endpoint
from fanout.wire.resp import replies
from fanout.wire.resp.requests import RequestDecoder, RequestLimits

VERSION = "7.0.15"
OUTPUT_BYTES_MAX = 32 * 1024 * 1024
"""Redis' hard limit for the output of a pub/sub client."""
SOFT_BYTES_MAX = 8 * 1024 * 1024
SOFT_SECONDS = 60
"""Redis' soft limit: so much may wait for so long."""
READONLY = "READONLY You can't write against a read only replica."

_LIMITS = RequestLimits(
    arguments_max=4096, bulk_bytes_max=16 * 1024 * 1024, request_bytes_max=18 * 1024 * 1024
)
_WRITES = frozenset((b"SET", b"DEL", b"SADD", b"SREM"))
_WITHOUT_LOGIN = frozenset((b"HELLO", b"AUTH"))
_KEYS = {
    **dict.fromkeys((b"GET", b"SET", b"PTTL", b"SADD", b"SREM", b"SMEMBERS"), slice(0, 1)),
    **dict.fromkeys((b"DEL", b"MGET"), slice(0, None)),
}
_CHANNELS = {b"PUBLISH": slice(0, 1), b"SUBSCRIBE": slice(0, None)}
"""Which arguments are keys or channels; patterns need only the right to the command."""
_NO_HELLO = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
    "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
    "select the RESP protocol version at the same time"
)
_WHILE_SUBSCRIBED = frozenset(
    (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"PING", b"QUIT", b"RESET")
)


class _RefusedError(Exception):
    """An error reply."""


@attrs.define(eq=False)
class _Connection:
    """One client."""

    number: int
    outbox: Outbox
    user: User | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    sender: Sender = attrs.field(init=False)
    resp3: bool = False
    over_since: float = 0.0  # since when more than the soft limit has waited
    channels: dict[bytes, None] = attrs.field(factory=dict)
    patterns: dict[bytes, None] = attrs.field(factory=dict)

    @property
    def count(self) -> int:
        """Return how much the client is subscribed to."""
        return len(self.channels) + len(self.patterns)

    def send(self, data: bytes) -> None:
        """Queue bytes, or cut off a client that does not read."""
        if self.outbox.size <= SOFT_BYTES_MAX:
            self.over_since = trio.current_time()
        overdue = trio.current_time() - self.over_since > SOFT_SECONDS
        if overdue or not self.outbox.append(data):
            self.scope.cancel()


_Run = Callable[[_Connection, list[bytes]], bytes]


class FakeRedis:
    """A Redis that lives in one task; `kill` and `run` again is a restart.

    Args:
        network: where it listens.
        endpoint: its address.
        rng: makes the run id.
        output_bytes_max: see `OUTPUT_BYTES_MAX`.
        managed: name and password of the only user, who may do anything but make others; as an
            operator of many Redis servers gives them out. None: a Redis of one's own.

    """

    def __init__(
        self,
        network: Network,
        endpoint: Endpoint,
        rng: Random,
        *,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        managed: tuple[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.run_id = ""
        self.running = False
        self.refuse_writes = ""
        """Text of the error that every write gets, as of a read-only or full Redis; empty: none."""
        self.log: list[tuple[bytes, bytes]] = []
        """Channel and payload of every publish; an empty channel marks a restart."""
        self.garbled = 0
        """How many connections were ended because what came was no command."""
        self.is_replica = False
        self.changed_at = 0.0
        """When its data was last lost or taken from elsewhere, as far as others can know."""
        self.on_publish: Callable[[bytes, bytes], None] = lambda _channel, _payload: None
        """Called with channel and payload of every publish, at the moment it is executed."""
        self._network = network
        self._rng = rng
        self._output_bytes_max = output_bytes_max
        self._managed = managed
        self._users: dict[bytes, User] = {}
        self._keys: dict[bytes, tuple[bytes | set[bytes], float]] = {}  # value, until when
        self._connections: dict[_Connection, None] = {}
        self._numbers = 0
        self._scope = trio.CancelScope()
        # Verb -> (how many arguments, or at least -how many less one, as Redis' arity without the
        # verb itself; what runs it).
        self._verbs: dict[bytes, tuple[int, _Run]] = {
            b"HELLO": (-1, self._hello), b"AUTH": (-2, self._auth), b"ACL": (-3, self._acl),
            b"PING": (-1, self._ping), b"INFO": (-1, self._info),
            b"ROLE": (0, self._role), b"GET": (1, self._get), b"SET": (-3, self._set),
            b"DEL": (-2, self._del), b"MGET": (-2, self._mget), b"PTTL": (1, self._pttl),
            b"SADD": (-3, self._sadd), b"SREM": (-3, self._srem), b"SMEMBERS": (1, self._smembers),
            b"PUBLISH": (2, self._publish), b"PUBSUB": (-2, self._pubsub),
            b"SUBSCRIBE": (-2, self._subscribe), b"UNSUBSCRIBE": (-1, self._unsubscribe),
            b"PSUBSCRIBE": (-2, partial(self._subscribe, pattern=True)),
            b"PUNSUBSCRIBE": (-1, partial(self._unsubscribe, pattern=True)),
        }  # fmt: skip

    @property
    def published(self) -> list[tuple[bytes, bytes]]:
        """What was published but for fanout's own channels, in order."""
        return [each for each in self.log if each[0] and not each[0].startswith(RESERVED_PREFIX)]

    @property
    def subscriptions(self) -> list[frozenset[bytes]]:
        """The channels of each connection that has any."""
        return [frozenset(each.channels) for each in self._connections if each.channels]

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def peek(self, key: bytes) -> bytes | None:
        """Return the text at a key, as GET does."""
        return self._text(key, strict=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until `kill` or cancelled. All data begins empty."""
        self._keys.clear()
        self._users = {b"default": default_user()}
        if self._managed is not None:
            name, password = (each.encode() for each in self._managed)
            rules = (b"on", b">" + password, b"~*", b"&*", b"+@all", b"-acl")
            self._users = {b"default": User(), name: make_user(*rules)}
        self.run_id = f"{self._rng.getrandbits(160):040x}"
        self.log.append((b"", self.run_id.encode()))
        self._scope = trio.CancelScope()
        listener = await self._network.bind(self.endpoint)
        self.running = True
        try:
            with self._scope:
                listener.listen()
                task_status.started()
                async with trio.open_nursery() as nursery:
                    while True:
                        nursery.start_soon(self._serve, await listener.accept())
        finally:
            self.running = False
            listener.close()

    def kill(self) -> None:
        """Die at once."""
        self._scope.cancel()

    def demote(self) -> None:
        """Become the replica of some other Redis: its data instead of one's own, no writes."""
        self.is_replica = True
        self.changed_at = trio.current_time()
        self.refuse_writes = READONLY
        self._keys.clear()

    def promote(self) -> None:
        """Be a primary again."""
        self.is_replica = False
        self.refuse_writes = ""

    def wipe(self) -> None:
        """Lose all keys, as FLUSHALL."""
        self._keys.clear()

    def dump(self) -> dict[bytes, tuple[bytes | set[bytes], float]]:
        """Return the keys as they are, for `restore`."""
        return {
            key: (set(value) if isinstance(value, set) else value, until)
            for key, (value, until) in self._keys.items()
        }

    def restore(self, dump: dict[bytes, tuple[bytes | set[bytes], float]]) -> None:
        """Go back to an older state."""
        self._keys = dict(dump)

    async def _serve(self, transport: Transport) -> None:
        self._numbers += 1
        default = self._users[b"default"]
        connection = _Connection(
            self._numbers,
            Outbox(self._output_bytes_max),
            default if default.enabled and default.nopass else None,
        )
        connection.sender = Sender(transport, connection.outbox)
        decoder = RequestDecoder(_LIMITS)
        self._connections[connection] = None
        try:
            with connection.scope, contextlib.suppress(*CONNECTION_ERRORS):
                async with trio.open_nursery() as nursery:
                    with connection.sender.sending(nursery):
                        while data := await transport.receive_some(65_536):
                            decoder.feed(data)
                            while (request := decoder.next_request()) is not None:
                                self._execute(connection, request)
                            self._flush()
                    nursery.cancel_scope.cancel()
        except* RemoteProtocolError:
            self.garbled += 1
        except* CONNECTION_ERRORS:
            pass
        finally:
            del self._connections[connection]
            transport.close()

    def _flush(self) -> None:
        for connection in self._connections:
            if connection.outbox:
                connection.sender.flush()

    def _execute(self, connection: _Connection, request: list[bytes]) -> None:
        verb = request[0].upper()
        arity, run = self._verbs.get(verb, (0, None))
        try:
            if run is None:
                shown = "".join(f"'{_text(each)}' " for each in request[1:])
                name = _text(request[0])
                raise _RefusedError(
                    f"ERR unknown command '{name}', with args beginning with: {shown}"
                )
            count = len(request) - 1
            if count != arity if arity >= 0 else count < -arity - 1:
                raise _RefusedError(
                    f"ERR wrong number of arguments for '{_text(verb).lower()}' command"
                )
            self._check_rights(connection, verb, request[1:])
            if connection.count and not connection.resp3 and verb not in _WHILE_SUBSCRIBED:
                raise _RefusedError(
                    f"ERR Can't execute '{verb.decode().lower()}': only (P|S)SUBSCRIBE / "
                    "(P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
                )
            if verb in _WRITES and self.refuse_writes:
                raise _RefusedError(self.refuse_writes)
            reply = run(connection, request[1:])
        except _RefusedError as refusal:
            reply = replies.error(str(refusal))
        if reply:
            connection.send(reply)

    def _check_rights(self, connection: _Connection, verb: bytes, arguments: list[bytes]) -> None:
        if verb in _WITHOUT_LOGIN:
            return
        if connection.user is None:
            raise _RefusedError("NOAUTH Authentication required.")
        keys = arguments[_KEYS.get(verb, slice(0, 0))]
        channels = arguments[_CHANNELS.get(verb, slice(0, 0))]
        if refusal := connection.user.refusal(verb, keys, channels):
            raise _RefusedError(refusal)

    # Keys.

    def _value(self, key: bytes) -> bytes | set[bytes] | None:
        value, until = self._keys.get(key, (None, 0.0))
        if value is not None and trio.current_time() >= until:
            del self._keys[key]
            return None
        return value

    def _text(self, key: bytes, *, strict: bool = True) -> bytes | None:
        value = self._value(key)
        if isinstance(value, set):
            if strict:
                raise _RefusedError(
                    "WRONGTYPE Operation against a key holding the wrong kind of value"
                )
            return None
        return value

    def _set_of(self, key: bytes) -> set[bytes]:
        value = self._value(key)
        if isinstance(value, bytes):
            raise _RefusedError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value if value is not None else set()

    def _get(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        (key,) = arguments
        return _bulk_or_null(connection, self._text(key))

    def _mget(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        keys = arguments
        return replies.array(
            _bulk_or_null(connection, self._text(key, strict=False)) for key in keys
        )

    def _set(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        key, value, *options = arguments
        until = float("inf")
        if options:
            if len(options) != 2 or options[0].upper() not in (b"PX", b"EX"):  # noqa: PLR2004
                raise _RefusedError("ERR syntax error")
            unit = 1000 if options[0].upper() == b"PX" else 1
            until = trio.current_time() + int(options[1]) / unit
        self._keys[key] = (value, until)
        return replies.OK

    def _del(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        keys = arguments
        return replies.integer(
            sum(
                self._value(key) is not None and self._keys.pop(key, None) is not None
                for key in keys
            )
        )

    def _pttl(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        (key,) = arguments
        if self._value(key) is None:
            return replies.integer(-2)
        until = self._keys[key][1]
        if until == float("inf"):
            return replies.integer(-1)
        return replies.integer(round((until - trio.current_time()) * 1000))

    def _sadd(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        key, *members = arguments
        present = self._set_of(key)
        added = set(members) - present
        self._keys[key] = (present | added, float("inf"))
        return replies.integer(len(added))

    def _srem(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        key, *members = arguments
        present = self._set_of(key)
        removed = set(members) & present
        if left := present - removed:
            self._keys[key] = (left, float("inf"))
        else:
            self._keys.pop(key, None)
        return replies.integer(len(removed))

    def _smembers(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        (key,) = arguments
        items = replies.array(replies.bulk(member) for member in sorted(self._set_of(key)))
        return b"~" + items[1:] if connection.resp3 else items

    # The server.

    def _hello(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        if arguments and arguments[0] not in (b"2", b"3"):
            raise _RefusedError("NOPROTO unsupported protocol version")
        if [each.upper() for each in arguments[1:2]] == [b"AUTH"]:
            self._auth(connection, arguments[2:4])
        if connection.user is None:
            raise _RefusedError(_NO_HELLO)
        if arguments:
            connection.resp3 = arguments[0] == b"3"
        fields = (
            (b"server", replies.bulk(b"redis")),
            (b"version", replies.bulk(VERSION.encode())),
            (b"proto", replies.integer(3 if connection.resp3 else 2)),
            (b"id", replies.integer(connection.number)),
            (b"mode", replies.bulk(b"standalone")),
            (b"role", replies.bulk(b"master")),
            (b"modules", replies.array(())),
        )
        pairs = ((replies.bulk(name), value) for name, value in fields)
        return replies.mapping(pairs, resp3=connection.resp3)

    def _auth(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        name, password = arguments if len(arguments) > 1 else (b"default", arguments[0])
        user = self._users.get(name)
        if len(arguments) == 1 and user is not None and user.nopass:
            raise _RefusedError(
                "ERR AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            )
        if user is None or not user.accepts(password):
            raise _RefusedError("WRONGPASS invalid username-password pair or user is disabled.")
        connection.user = user
        return replies.OK

    def _acl(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        what, name, *rules = arguments
        if what.upper() != b"SETUSER":
            raise _RefusedError(f"ERR unknown subcommand '{_text(what)}'. Try ACL HELP.")
        user = self._users.setdefault(name, User())
        for rule in rules:
            user.apply(rule)
        return replies.OK

    def _ping(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        if connection.count and not connection.resp3:
            return replies.array(
                (replies.bulk(b"pong"), replies.bulk(arguments[0] if arguments else b""))
            )
        return replies.bulk(arguments[0]) if arguments else replies.PONG

    def _info(self, connection: _Connection, arguments: list[bytes]) -> bytes:
        if arguments and arguments[0].lower() == b"replication":
            role = b"slave" if self.is_replica else b"master"
            text = b"# Replication\r\nrole:%b\r\n" % role
        else:
            text = f"# Server\r\nredis_version:{VERSION}\r\nrun_id:{self.run_id}\r\n".encode()
        if connection.resp3:
            return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)
        return replies.bulk(text)

    def _role(self, _connection: _Connection, _arguments: list[bytes]) -> bytes:
        if not self.is_replica:
            return replies.array((replies.bulk(b"master"), replies.integer(0), replies.array(())))
        primary = (replies.bulk(b"127.0.0.1"), replies.integer(1), replies.bulk(b"connect"))
        return replies.array((replies.bulk(b"slave"), *primary, replies.integer(-1)))

    # Publish and subscribe.

    def _publish(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        channel, payload = arguments
        self.log.append((channel, payload))
        self.on_publish(channel, payload)
        receivers = 0
        for each in self._connections:
            encode, pencode = (
                (replies.messages3, replies.pmessages3)
                if each.resp3
                else (replies.messages2, replies.pmessages2)
            )
            if channel in each.channels:
                each.send(encode(channel, (payload,)))
                receivers += 1
            for pattern in each.patterns:
                if compile_pattern(pattern)(channel):
                    each.send(pencode(pattern, ((channel, payload),)))
                    receivers += 1
        return replies.integer(receivers)

    def _pubsub(self, _connection: _Connection, arguments: list[bytes]) -> bytes:
        what, *names = arguments
        each = self._connections
        match what.upper():
            case b"NUMSUB":
                return replies.array(
                    item
                    for name in names
                    for item in (
                        replies.bulk(name),
                        replies.integer(sum(name in connection.channels for connection in each)),
                    )
                )
            case b"NUMPAT":
                return replies.integer(len({name for client in each for name in client.patterns}))
            case b"CHANNELS":
                channels = {name for client in each for name in client.channels}
                matches = compile_pattern(names[0]) if names else None
                kept = sorted(name for name in channels if matches is None or matches(name))
                return replies.array(map(replies.bulk, kept))
        raise _RefusedError(f"ERR unknown subcommand '{what.decode()}'. Try PUBSUB HELP.")

    def _subscribe(
        self, connection: _Connection, arguments: list[bytes], *, pattern: bool = False
    ) -> bytes:
        verb = b"psubscribe" if pattern else b"subscribe"
        names = connection.patterns if pattern else connection.channels
        confirmations = []
        for name in arguments:
            names[name] = None
            confirmations.append(
                replies.confirmation(verb, name, connection.count, resp3=connection.resp3)
            )
        return b"".join(confirmations)

    def _unsubscribe(
        self, connection: _Connection, arguments: list[bytes], *, pattern: bool = False
    ) -> bytes:
        verb = b"punsubscribe" if pattern else b"unsubscribe"
        names = connection.patterns if pattern else connection.channels
        confirmations = []
        for name in arguments or list(names) or (None,):
            if name is not None:
                names.pop(name, None)
            confirmations.append(
                replies.confirmation(verb, name, connection.count, resp3=connection.resp3)
            )
        return b"".join(confirmations)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bulk_or_null(connection: _Connection, value: bytes | None) -> bytes:
    if value is None:
        return replies.NULL3 if connection.resp3 else replies.NULL2
    return replies.bulk(value)
