"""One Redis client's session: what each request means, and the reply it gets.

Pure: it keeps the client's subscriptions as of the requests handled so far, so that replies with
the right counts can be made at once. The shell writes them in the order of the requests, that of a
SUBSCRIBE once every node has confirmed it.

Replies are those of Redis, byte for byte, with these exceptions: there is one database, `SELECT 0`;
`CLIENT SETINFO` of Redis 7.2 is taken and forgotten; COMMAND tells of what is served here and
leaves out ACL categories and documentation; reserved names and what is over a limit are refused.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import attrs

from fanout.values import (
    RESERVED_PREFIX,
    Action,
    Close,
    Encoding,
    Kind,
    Publish,
    Reply,
    Reset,
    Subscribe,
    Unsubscribe,
)
from fanout.wire import resp
from fanout.wire.requests import parse_integer

REDIS_VERSION = b"7.0.15"
"""The Redis whose pub/sub behaviour clients get; they read it to choose their features."""

_SHOWN_BYTES_MAX = 128
"""How much of a wrong verb, and of its arguments together, an error repeats."""

_IN_SUBSCRIBED_MODE = frozenset(
    (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ping", b"quit", b"reset")
)
_BAD_CLIENT_NAME = b"ERR Client names cannot contain spaces, newlines or special characters."
_NOT_INTEGER = b"ERR value is not an integer or out of range"


@attrs.frozen(slots=True)
class _Verb:
    """A verb as the COMMAND request describes it, and what it does."""

    name: bytes  # of a subcommand: `client|id`
    arity: int  # as Redis counts: the verb included, negative for at least so many
    flags: bytes
    handle: "Callable[[Session, list[bytes]], Action] | None"  # None: it has subcommands only
    subcommands: "Mapping[bytes, _Verb]" = attrs.field(factory=dict)


class Session:
    """The session of one client."""

    __slots__ = (
        "_channels", "_client_id", "_name", "_name_bytes_max", "_patterns", "_payload_bytes_max",
        "_resp3",
    )  # fmt: skip

    def __init__(
        self, client_id: int, *, payload_bytes_max: int = 1_048_576, name_bytes_max: int = 1024
    ) -> None:
        self._client_id = client_id
        self._payload_bytes_max = payload_bytes_max
        self._name_bytes_max = name_bytes_max
        self._resp3 = False
        self._name = b""
        self._channels: dict[bytes, None] = {}
        self._patterns: dict[bytes, None] = {}

    @property
    def encoding(self) -> Encoding:
        """How deliveries to this client are written."""
        return Encoding.RESP3 if self._resp3 else Encoding.RESP2

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return bool(self._channels or self._patterns)

    def handle(self, request: list[bytes]) -> Action:
        """Return what one request asks for. Never raises for anything a client can send."""
        if (
            request[0] in (b"PUBLISH", b"publish")
            and len(request) == 3  # noqa: PLR2004
            and (self._resp3 or not (self._channels or self._patterns))
        ):
            return self._publish(request)  # the same as below, sooner
        verb = self._VERBS.get(request[0].lower())
        if verb is None:
            return _unknown_command(request)
        if verb.subcommands and len(request) > 1:
            group, verb = verb, verb.subcommands.get(request[1].lower())
            if verb is None:
                shown = _shown(request[1], _SHOWN_BYTES_MAX)
                return _error(
                    b"ERR unknown subcommand '%b'. Try %b HELP." % (shown, group.name.upper())
                )
        count, arity = len(request), verb.arity
        if verb.handle is None or (count < -arity if arity < 0 else count != arity):
            return _wrong_arity(verb.name)
        if self.subscribed and not self._resp3 and verb.name not in _IN_SUBSCRIBED_MODE:
            return _error(
                b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                b"PING / QUIT / RESET are allowed in this context" % verb.name
            )
        return verb.handle(self, request)

    def _publish(self, request: list[bytes]) -> Action:
        _, channel, payload = request
        if channel.startswith(RESERVED_PREFIX) or len(channel) > self._name_bytes_max:
            return self._name_refusal(channel)
        if len(payload) > self._payload_bytes_max:
            return _over_limit(b"message", payload, self._payload_bytes_max)
        return Publish(channel, payload)

    def _name_refusal(self, name: bytes) -> Reply:
        if name.startswith(RESERVED_PREFIX):
            return _error(b"ERR channel names below '%b' are reserved" % RESERVED_PREFIX)
        return _over_limit(b"channel name", name, self._name_bytes_max)

    def _subscribe(self, request: list[bytes]) -> Action:
        return self._take(Kind.CHANNEL, b"subscribe", request)

    def _psubscribe(self, request: list[bytes]) -> Action:
        return self._take(Kind.PATTERN, b"psubscribe", request)

    def _unsubscribe(self, request: list[bytes]) -> Action:
        return self._give_up(Kind.CHANNEL, b"unsubscribe", request)

    def _punsubscribe(self, request: list[bytes]) -> Action:
        return self._give_up(Kind.PATTERN, b"punsubscribe", request)

    def _take(self, kind: Kind, verb: bytes, request: list[bytes]) -> Action:
        """Subscribe to all names or, if one is refused, to none."""
        names = request[1:]
        for name in names:
            if name.startswith(RESERVED_PREFIX) or len(name) > self._name_bytes_max:
                return self._name_refusal(name)
        held = self._held(kind)
        new: list[bytes] = []
        replies: list[bytes] = []
        for name in names:
            if name not in held:
                held[name] = None
                new.append(name)
            replies.append(resp.confirmation(verb, name, self._count(), resp3=self._resp3))
        return Subscribe(kind, tuple(new), b"".join(replies))

    def _give_up(self, kind: Kind, verb: bytes, request: list[bytes]) -> Action:
        """Unsubscribe from names, or from all in the order they were subscribed."""
        held = self._held(kind)
        dropped: list[bytes] = []
        replies: list[bytes] = []
        for name in request[1:] or list(held) or (None,):
            if name is not None and name in held:
                del held[name]
                dropped.append(name)
            replies.append(resp.confirmation(verb, name, self._count(), resp3=self._resp3))
        return Unsubscribe(kind, tuple(dropped), b"".join(replies))

    def _held(self, kind: Kind) -> dict[bytes, None]:
        return self._channels if kind is Kind.CHANNEL else self._patterns

    def _count(self) -> int:
        return len(self._channels) + len(self._patterns)

    def _ping(self, request: list[bytes]) -> Action:
        if len(request) > 2:  # noqa: PLR2004
            return _wrong_arity(b"ping")
        argument = request[1] if len(request) > 1 else None
        if self.subscribed and not self._resp3:
            return Reply(resp.array((resp.bulk(b"pong"), resp.bulk(argument or b""))))
        return Reply(resp.PONG if argument is None else resp.bulk(argument))

    def _hello(self, request: list[bytes]) -> Action:
        version = 3 if self._resp3 else 2
        if len(request) > 1:
            asked = parse_integer(request[1])
            if asked is None:
                return _error(b"ERR Protocol version is not an integer or out of range")
            if asked not in (2, 3):
                return _error(b"NOPROTO unsupported protocol version")
            version = asked
        name = self._name
        rest = request[2:]
        while rest:
            option = rest[0].lower()
            if option == b"auth" and len(rest) >= 3:  # noqa: PLR2004
                # As in a Redis without passwords: its one user may give any.
                if rest[1] != b"default":
                    return _error(b"WRONGPASS invalid username-password pair or user is disabled.")
                rest = rest[3:]
            elif option == b"setname" and len(rest) >= 2:  # noqa: PLR2004
                name = rest[1]
                if refusal := self._client_name_refusal(name):
                    return refusal
                rest = rest[2:]
            else:
                shown = _shown(rest[0], len(rest[0]))
                return _error(b"ERR Syntax error in HELLO option '%b'" % shown)
        self._name = name
        before, self._resp3 = self._resp3, version == 3  # noqa: PLR2004
        reply = resp.mapping(
            (
                (resp.bulk(b"server"), resp.bulk(b"redis")),
                (resp.bulk(b"version"), resp.bulk(REDIS_VERSION)),
                (resp.bulk(b"proto"), resp.integer(version)),
                (resp.bulk(b"id"), resp.integer(self._client_id)),
                (resp.bulk(b"mode"), resp.bulk(b"standalone")),
                (resp.bulk(b"role"), resp.bulk(b"master")),
                (resp.bulk(b"modules"), resp.array(())),
            ),
            resp3=self._resp3,
        )
        if self._resp3 is before:
            return Reply(reply)
        return Reset(self.encoding, unsubscribe=False, reply=reply)

    def _client_name_refusal(self, name: bytes) -> Reply | None:
        if len(name) > self._name_bytes_max:
            return _over_limit(b"client name", name, self._name_bytes_max)
        printable = all(0x21 <= byte <= 0x7E for byte in name)  # noqa: PLR2004
        return None if printable else _error(_BAD_CLIENT_NAME)

    def _client_id_(self, _request: list[bytes]) -> Action:
        return Reply(resp.integer(self._client_id))

    def _client_getname(self, _request: list[bytes]) -> Action:
        return Reply(resp.bulk(self._name or None, resp3=self._resp3))

    def _client_setname(self, request: list[bytes]) -> Action:
        if refusal := self._client_name_refusal(request[2]):
            return refusal
        self._name = request[2]
        return Reply(resp.OK)

    def _client_setinfo(self, _request: list[bytes]) -> Action:
        return Reply(resp.OK)

    def _select(self, request: list[bytes]) -> Action:
        index = parse_integer(request[1])
        if index is None:
            return _error(_NOT_INTEGER)
        if not -(1 << 31) <= index < 1 << 31:
            return _error(
                b"ERR value is out of range, value must between -2147483648 and 2147483647"
            )
        return _error(b"ERR DB index is out of range") if index else Reply(resp.OK)

    def _reset(self, _request: list[bytes]) -> Action:
        self._channels.clear()
        self._patterns.clear()
        self._resp3 = False
        self._name = b""
        return Reset(Encoding.RESP2, unsubscribe=True, reply=resp.simple(b"RESET"))

    def _quit(self, _request: list[bytes]) -> Action:
        return Close(resp.OK, "the client quit")

    def _command(self, request: list[bytes]) -> Action:
        """Describe the verbs named behind `COMMAND INFO`; without names, all of them."""
        wanted = [self._VERBS.get(name.lower()) for name in request[2:]]
        return Reply(
            resp.array(_describe(verb, self._resp3) for verb in wanted or self._VERBS.values())
        )

    def _command_count(self, _request: list[bytes]) -> Action:
        return Reply(resp.integer(len(self._VERBS)))

    def _command_docs(self, _request: list[bytes]) -> Action:
        return Reply(resp.mapping((), resp3=self._resp3))

    _PUBSUB = b"pubsub noscript loading stale"
    _CONNECTION = b"noscript loading stale"
    _ALWAYS = b"noscript loading stale fast no_auth allow_busy"
    _VERBS: ClassVar[dict[bytes, _Verb]] = {
        verb.name: verb
        for verb in (
            _Verb(b"publish", 3, b"pubsub loading stale fast", _publish),
        )
    }


def _describe(verb: _Verb | None, resp3: bool) -> bytes:
    ...
