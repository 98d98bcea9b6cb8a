"""One Redis client's session: what each request means, and the reply it gets.

Pure: it keeps the client's subscriptions as of the requests handled so far, so that replies with
the right counts can be made at once. The shell writes them in the order of the requests, that of a
SUBSCRIBE once every node has confirmed it.
"""

from collections.abc import Callable

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

REDIS_VERSION = b"7.0.15"
"""The Redis whose pub/sub behaviour clients get; they read it to choose their features."""

_INFO = (
    b"# Server\r\nredis_version:%b\r\nredis_mode:standalone\r\narch_bits:64\r\n\r\n"
    b"# Persistence\r\nloading:0\r\n\r\n# Replication\r\nrole:master\r\n\r\n"
    b"# Cluster\r\ncluster_enabled:0\r\n"
) % REDIS_VERSION
"""What clients ask before they consider a server ready."""

_ERROR_ARGUMENTS_BYTES_MAX = 128
_IN_SUBSCRIBED_MODE = frozenset(
    (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ping", b"quit", b"reset")
)
_ARITY = {  # as Redis counts: the verb included, negative for at least so many
    b"publish": 3,
    b"subscribe": -2,
    b"unsubscribe": -1,
    b"psubscribe": -2,
    b"punsubscribe": -1,
    b"ping": -1,
    b"hello": -1,
    b"client": -2,
    b"select": 2,
    b"reset": 1,
    b"quit": -1,
    b"command": -1,
    b"info": -1,
}


class Session:
    """The session of one client."""

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
        self._handlers: dict[bytes, Callable[[list[bytes]], Action]] = {
            b"subscribe": lambda request: self._subscribe(Kind.CHANNEL, request),
            b"psubscribe": lambda request: self._subscribe(Kind.PATTERN, request),
            b"unsubscribe": lambda request: self._unsubscribe(Kind.CHANNEL, request),
            b"punsubscribe": lambda request: self._unsubscribe(Kind.PATTERN, request),
            b"publish": self._publish,
            b"ping": self._ping,
            b"hello": self._hello,
            b"client": self._client,
            b"select": self._select,
            b"reset": self._reset,
            b"quit": lambda _: Close(resp.OK, "the client quit"),
            b"command": self._command,
            b"info": lambda _: Reply(resp.bulk(_INFO)),
        }

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
            request[0] == b"PUBLISH"
            and len(request) == 3  # noqa: PLR2004
            and (self._resp3 or not self.subscribed)
        ):
            return self._publish(request)  # the same as below, sooner
        verb = request[0].lower()
        handler = self._handlers.get(verb)
        if handler is None:
            return _error(_unknown_command(request))
        arity = _ARITY[verb]
        if len(request) != arity if arity > 0 else len(request) < -arity:
            return _error(f"ERR wrong number of arguments for '{_text(verb)}' command")
        if self.subscribed and not self._resp3 and verb not in _IN_SUBSCRIBED_MODE:
            return _error(
                f"ERR Can't execute '{_text(verb)}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
                "PING / QUIT / RESET are allowed in this context"
            )
        return handler(request)

    def _publish(self, request: list[bytes]) -> Action:
        _, channel, payload = request
        if refusal := self._name_refusal(channel):
            return _error(refusal)
        if len(payload) > self._payload_bytes_max:
            return _error(
                f"ERR message of {len(payload)} bytes is over the limit of "
                f"{self._payload_bytes_max} bytes"
            )
        return Publish(channel, payload)

    def _name_refusal(self, name: bytes) -> str:
        if name.startswith(RESERVED_PREFIX):
            return f"ERR channel names below '{_text(RESERVED_PREFIX)}' are reserved"
        if len(name) > self._name_bytes_max:
            return (
                f"ERR channel name of {len(name)} bytes is over the limit of "
                f"{self._name_bytes_max} bytes"
            )
        return ""

    def _subscribe(self, kind: Kind, request: list[bytes]) -> Action:
        names = request[1:]
        for name in names:
            if refusal := self._name_refusal(name):
                return _error(refusal)
        held = self._channels if kind is Kind.CHANNEL else self._patterns
        verb = b"subscribe" if kind is Kind.CHANNEL else b"psubscribe"
        new: list[bytes] = []
        reply = b""
        for name in names:
            if name not in held:
                held[name] = None
                new.append(name)
            reply += resp.confirmation(verb, name, self._count(), resp3=self._resp3)
        return Subscribe(kind, tuple(new), reply)

    def _unsubscribe(self, kind: Kind, request: list[bytes]) -> Action:
        """Give up names, or all in the order they were subscribed; each is confirmed."""
        held = self._channels if kind is Kind.CHANNEL else self._patterns
        verb = b"unsubscribe" if kind is Kind.CHANNEL else b"punsubscribe"
        dropped: list[bytes] = []
        reply = b""
        for name in request[1:] or list(held):
            if name in held:
                del held[name]
                dropped.append(name)
            reply += resp.confirmation(verb, name, self._count(), resp3=self._resp3)
        if not reply:
            reply = resp.confirmation(verb, None, self._count(), resp3=self._resp3)
        return Unsubscribe(kind, tuple(dropped), reply)

    def _count(self) -> int:
        return len(self._channels) + len(self._patterns)

    def _ping(self, request: list[bytes]) -> Action:
        if len(request) > 2:  # noqa: PLR2004
            return _error("ERR wrong number of arguments for 'ping' command")
        argument = request[1] if len(request) > 1 else None
        if self.subscribed and not self._resp3:
            return Reply(resp.array((resp.bulk(b"pong"), resp.bulk(argument or b""))))
        return Reply(resp.PONG if argument is None else resp.bulk(argument))

    def _hello(self, request: list[bytes]) -> Action:
        resp3 = self._resp3
        if len(request) > 1:
            if not request[1].lstrip(b"-").isdigit():
                return _error("ERR Protocol version is not an integer or out of range")
            if request[1] not in (b"2", b"3"):
                return _error("NOPROTO unsupported protocol version")
            resp3 = request[1] == b"3"
        name = self._name
        rest = request[2:]
        while rest:
            option = rest[0].lower()
            if option == b"auth" and len(rest) >= 3:  # noqa: PLR2004
                if rest[1] != b"default":
                    return _error("WRONGPASS invalid username-password pair or user is disabled.")
                rest = rest[3:]
            elif option == b"setname" and len(rest) >= 2:  # noqa: PLR2004
                name = rest[1]
                if not _is_client_name(name):
                    return _error(_BAD_CLIENT_NAME)
                rest = rest[2:]
            else:
                return _error(f"ERR Syntax error in HELLO option '{_text(rest[0])}'")
        self._name = name
        changed, self._resp3 = resp3 is not self._resp3, resp3
        reply = resp.mapping(
            (
                (resp.bulk(b"server"), resp.bulk(b"redis")),
                (resp.bulk(b"version"), resp.bulk(REDIS_VERSION)),
                (resp.bulk(b"proto"), resp.integer(3 if resp3 else 2)),
                (resp.bulk(b"id"), resp.integer(self._client_id)),
                (resp.bulk(b"mode"), resp.bulk(b"standalone")),
                (resp.bulk(b"role"), resp.bulk(b"master")),
                (resp.bulk(b"modules"), resp.array(())),
            ),
            resp3=resp3,
        )
        if not changed:
            return Reply(reply)
        return Reset(self.encoding, unsubscribe=False, reply=reply)

    def _client(self, request: list[bytes]) -> Action:
        command = request[1].lower()
        arguments = request[2:]
        if command == b"id" and not arguments:
            return Reply(resp.integer(self._client_id))
        if command == b"getname" and not arguments:
            if not self._name:
                return Reply(resp.NULL3 if self._resp3 else resp.NULL2)
            return Reply(resp.bulk(self._name))
        if command == b"setname" and len(arguments) == 1:
            if not _is_client_name(arguments[0]):
                return _error(_BAD_CLIENT_NAME)
            self._name = arguments[0]
            return Reply(resp.OK)
        if command == b"setinfo" and len(arguments) == 2:  # noqa: PLR2004
            return Reply(resp.OK)
        if command in (b"id", b"getname", b"setname", b"setinfo"):
            return _error(f"ERR wrong number of arguments for 'client|{_text(command)}' command")
        return _error(f"ERR unknown subcommand '{_text(request[1][:128])}'. Try CLIENT HELP.")

    def _select(self, request: list[bytes]) -> Action:
        digits = request[1].lstrip(b"-")
        if not digits.isdigit():
            return _error("ERR value is not an integer or out of range")
        return Reply(resp.OK) if int(digits) == 0 else _error("ERR DB index is out of range")

    def _reset(self, _request: list[bytes]) -> Action:
        self._channels.clear()
        self._patterns.clear()
        self._resp3 = False
        self._name = b""
        return Reset(Encoding.RESP2, unsubscribe=True, reply=resp.simple(b"RESET"))

    def _command(self, request: list[bytes]) -> Action:
        """Describe what is served, in the form of Redis' COMMAND."""
        command = request[1].lower() if len(request) > 1 else b""
        if command == b"count":
            return Reply(resp.integer(len(_ARITY)))
        if command == b"docs":
            return Reply(resp.mapping((), resp3=self._resp3))
        if command not in (b"", b"info"):
            return _error(f"ERR unknown subcommand '{_text(request[1][:128])}'. Try COMMAND HELP.")
        null = resp.NULL3 if self._resp3 else b"*-1\r\n"
        wanted = [name.lower() for name in request[2:]] or list(_ARITY)
        return Reply(resp.array(_describe(name) if name in _ARITY else null for name in wanted))


_BAD_CLIENT_NAME = "ERR Client names cannot contain spaces, newlines or special characters."


def _describe(verb: bytes) -> bytes:
    numbers = [resp.integer(number) for number in (0, 0, 0)]
    empty = resp.array(())
    return resp.array(
        (resp.bulk(verb), resp.integer(_ARITY[verb]), empty, *numbers, empty, empty, empty, empty)
    )


def _is_client_name(name: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in name)  # noqa: PLR2004


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _error(text: str) -> Reply:
    return Reply(resp.error(text))


def _unknown_command(request: list[bytes]) -> str:
    """Name the command and the first arguments, as much of them as Redis shows."""
    shown = ""
    for argument in request[1:]:
        if len(shown) >= _ERROR_ARGUMENTS_BYTES_MAX:
            break
        shown += f"'{_text(argument[: _ERROR_ARGUMENTS_BYTES_MAX - len(shown)])}' "
    return f"ERR unknown command '{_text(request[0][:128])}', with args beginning with: {shown}"
