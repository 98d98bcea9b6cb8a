"""The RESP door's commands about the connection itself; those of CLIENT are in `client_command`."""

import attrs

from fanout.values.requests import Action, Ask, Close, Encoding, Publish, Reply, Reset
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import UNANSWERED, ClientState

REDIS_VERSION = b"7.0.15"
"""The Redis version whose pub/sub is implemented; clients choose their features by it."""

BAD_CLIENT_NAME = "ERR Client names cannot contain spaces, newlines or special characters."
_WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."  # noqa: S105
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "  # noqa: S105
    "Are you sure your configuration is correct?"
)
_NO_HELLO = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
    "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
    "select the RESP protocol version at the same time"
)
_INT64 = 2**63


def ping(state: ClientState, request: list[bytes]) -> Action:
    """Answer PING; a subscriber with RESP2 gets the reply in the form of a message."""
    if len(request) > 2:  # noqa: PLR2004
        return Reply(replies.error("ERR wrong number of arguments for 'ping' command"))
    argument = request[1] if len(request) > 1 else None
    if state.subscribed and not state.resp3:
        return Reply(replies.array((replies.bulk(b"pong"), replies.bulk(argument or b""))))
    return Reply(replies.PONG if argument is None else replies.bulk(argument))


def echo(_state: ClientState, request: list[bytes]) -> Action:
    """Return the argument."""
    return Reply(replies.bulk(request[1]))


def auth(state: ClientState, request: list[bytes]) -> Action:
    """Log in. Without users there are no passwords; the default user of Redis then accepts any."""
    if len(request) > 3:  # noqa: PLR2004
        return Reply(replies.error("ERR syntax error"))
    if len(request) == 2 and not state.sidecar.has_users:  # noqa: PLR2004
        return Reply(replies.error(_NO_PASSWORD))
    user = request[1] if len(request) == 3 else b"default"  # noqa: PLR2004
    refusal = _authenticate(state, user, request[-1])
    return Reply(replies.error(refusal) if refusal else replies.OK)


def _authenticate(state: ClientState, user: bytes, secret: bytes) -> str:
    if not state.sidecar.has_users:
        return "" if user == b"default" else _WRONG_PASSWORD
    name = user.decode("utf-8", "surrogateescape")  # all of it: no other name means this user
    access = state.sidecar.log_in(state.client_id, name, secret)
    if access is None:
        return _WRONG_PASSWORD
    state.access = access
    return ""


def hello(state: ClientState, request: list[bytes]) -> Action:
    """Set the protocol, log in, set a name; steps before an error are kept."""
    resp3 = state.resp3
    if len(request) > 1:
        version = integer(request[1])
        if version is None:
            return Reply(replies.error("ERR Protocol version is not an integer or out of range"))
        if version not in (2, 3):
            return Reply(replies.error("NOPROTO unsupported protocol version"))
        resp3 = version == 3  # noqa: PLR2004
    rest = request[2:]
    while rest:
        option = rest[0].lower()
        if option == b"auth" and len(rest) >= 3:  # noqa: PLR2004
            if refusal := _authenticate(state, rest[1], rest[2]):
                return Reply(replies.error(refusal))
            rest = rest[3:]
        elif option == b"setname" and len(rest) >= 2:  # noqa: PLR2004
            if not is_client_name(rest[1]):
                return Reply(replies.error(BAD_CLIENT_NAME))
            state.name = rest[1]
            rest = rest[2:]
        else:
            return Reply(
                replies.error(f"ERR Syntax error in HELLO option '{replies.text(rest[0])}'")
            )
    if state.locked:
        return Reply(replies.error(_NO_HELLO))
    changed, state.resp3 = resp3 is not state.resp3, resp3
    reply = replies.mapping(
        (
            (replies.bulk(b"server"), replies.bulk(b"redis")),
            (replies.bulk(b"version"), replies.bulk(REDIS_VERSION)),
            (replies.bulk(b"proto"), replies.integer(3 if resp3 else 2)),
            (replies.bulk(b"id"), replies.integer(state.client_id)),
            (replies.bulk(b"mode"), replies.bulk(b"standalone")),
            (replies.bulk(b"role"), replies.bulk(b"master")),
            (replies.bulk(b"modules"), replies.array(())),
        ),
        resp3=resp3,
    )
    return Reset(state.encoding, unsubscribe=False, reply=reply) if changed else Reply(reply)


def select(_state: ClientState, request: list[bytes]) -> Action:
    """Select database 0, the only one: pub/sub ignores the database."""
    number = integer(request[1])
    if number is None:
        return Reply(replies.error("ERR value is not an integer or out of range"))
    return Reply(replies.OK if number == 0 else replies.error("ERR DB index is out of range"))


def reset(state: ClientState, _request: list[bytes]) -> Action:
    """Reset the connection, as if just connected."""
    state.drop_all()
    state.forget_transaction()
    state.resp3 = state.reply_off = state.reply_skip_next = False
    state.name = b""
    state.access = None
    return Reset(Encoding.RESP2, unsubscribe=True, reply=replies.simple(b"RESET"))


def close(_state: ClientState, _request: list[bytes]) -> Action:
    """Close the connection."""
    return Close(replies.OK, "the client quit")


def done(_state: ClientState, _request: list[bytes]) -> Action:
    """Accept a command that has no effect here."""
    return Reply(replies.OK)


def integer(digits: bytes) -> int | None:
    """Parse an integer as strictly as Redis does; return None if it is invalid."""
    plain = digits.removeprefix(b"-")
    if not plain.isdigit() or len(plain) > 19 or (plain[:1] == b"0" and digits != b"0"):  # noqa: PLR2004
        return None
    number = int(digits)
    return number if -_INT64 <= number < _INT64 else None


def is_client_name(name: bytes) -> bool:
    """Return whether it is a valid name of a connection."""
    return all(0x21 <= byte <= 0x7E for byte in name)  # noqa: PLR2004


def silenced(action: Action) -> Action:
    """Return the action without its reply; confirmations of subscriptions are kept, as in Redis."""
    match action:
        case Reply(data) if callable(data):
            return Reply(lambda: data()[:0])
        case Reply() | Ask():
            return Reply(b"")
        case Publish():
            return attrs.evolve(action, tag=UNANSWERED)
        case Reset() | Close():
            return attrs.evolve(action, reply=b"")
    return action
