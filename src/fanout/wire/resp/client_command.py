"""The command CLIENT: the connection itself, and the list of connections."""

from collections.abc import Callable
from functools import partial

from fanout.values.names import Space
from fanout.values.requests import Action, Close, Reply
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import ClientFacts, ClientState
from fanout.wire.resp.connection_commands import BAD_CLIENT_NAME, integer, is_client_name

_SYNTAX = replies.error("ERR syntax error")
_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")
_Match = Callable[[ClientFacts], bool]

_HELP = (
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * ID <client-id>",
    "      Kill connections by client id.",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * ID <client-id> [<client-id> ...]",
    "      Return clients of specified IDs.",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
)


def client_help(_state: ClientState, _request: list[bytes]) -> Action:
    """Return the help of CLIENT."""
    return Reply(replies.help_text("CLIENT", _HELP))


def client_id(state: ClientState, _request: list[bytes]) -> Action:
    """Return the number of this connection."""
    return Reply(replies.integer(state.client_id))


def getname(state: ClientState, _request: list[bytes]) -> Action:
    """Return the name of this connection."""
    return Reply(replies.bulk(state.name) if state.name else state.null)


def setname(state: ClientState, request: list[bytes]) -> Action:
    """Set or remove the name of this connection."""
    if not is_client_name(request[2]):
        return Reply(replies.error(BAD_CLIENT_NAME))
    state.name = request[2]
    return Reply(replies.OK)


def on_off(_state: ClientState, request: list[bytes]) -> Action:
    """Accept NO-EVICT and NO-TOUCH, which have no effect here."""
    return Reply(replies.OK if request[2].lower() in (b"on", b"off") else _SYNTAX)


def reply(state: ClientState, request: list[bytes]) -> Action:
    """Turn replies on, off, or off for the next request. OFF itself gets no reply."""
    mode = request[2].lower()
    if mode == b"on":
        state.reply_off = state.reply_skip = False
    elif mode == b"off":
        state.reply_off = True
    elif mode == b"skip":
        state.reply_skip_next = not state.reply_off
    else:
        return Reply(_SYNTAX)
    return Reply(replies.OK if mode == b"on" else b"")


def info(state: ClientState, _request: list[bytes]) -> Action:
    """Return a description of this connection."""
    return Reply(_list(state, lambda client: client.state is state))


def list_clients(state: ClientState, request: list[bytes]) -> Action:
    """Return a description of each connection of this door."""
    rest = request[2:]
    option = rest[0].lower() if rest else b""
    match: _Match = lambda _client: True  # noqa: E731
    if option == b"type" and len(rest) == 2:  # noqa: PLR2004
        if rest[1].lower() not in _TYPES:
            return Reply(replies.error(f"ERR Unknown client type '{replies.text(rest[1])}'"))
        match = partial(_is_of_type, rest[1].lower())
    elif option == b"id" and len(rest) > 1:
        ids = {integer(each) for each in rest[1:]}
        if None in ids:
            return Reply(replies.error("ERR Invalid client ID"))
        match = lambda client: client.client_id in ids  # noqa: E731
    elif rest:
        return Reply(_SYNTAX)
    return Reply(_list(state, match))


def kill(state: ClientState, request: list[bytes]) -> Action:
    """Close connections of this door: one by its address, or all that match every filter."""
    old_form = len(request) == 3  # noqa: PLR2004
    skip_me = not old_form
    filters: list[_Match] = []
    if old_form:
        filters.append(partial(_is_at, replies.text(request[2])))
    elif len(request) % 2:
        return Reply(_SYNTAX)
    else:
        for option, value in zip(request[2::2], request[3::2], strict=True):
            if option.lower() == b"skipme" and value.lower() in (b"yes", b"no"):
                skip_me = value.lower() == b"yes"
                continue
            found = _filter(option.lower(), value)
            if isinstance(found, str):
                return Reply(replies.error(found))
            filters.append(found)

    def matches(client: ClientFacts) -> bool:
        if skip_me and client.state is state:
            return False
        return all(match(client) for match in filters)

    def end() -> bytes:
        ids = [client.client_id for client in state.sidecar.clients() if matches(client)]
        for each in ids:
            if each != state.client_id:
                state.sidecar.disconnect(each)
        if old_form:
            return replies.OK if ids else replies.error("ERR No such client")
        return replies.integer(len(ids))

    if any(client.state is state and matches(client) for client in state.sidecar.clients()):
        return Close(end, "the client ended itself")
    return Reply(end)


def _filter(option: bytes, value: bytes) -> _Match | str:
    """Return a filter of CLIENT KILL, or an error."""
    shown = replies.text(value)
    match option:
        case b"id":
            number = integer(value)
            if number is None or number < 1:
                return "ERR client-id should be greater than 0"
            return lambda client: client.client_id == number
        case b"addr":
            return partial(_is_at, shown)
        case b"laddr":
            return lambda client: client.local_address == shown
        case b"type":
            if value.lower() not in _TYPES:
                return f"ERR Unknown client type '{shown}'"
            return partial(_is_of_type, value.lower())
        case b"user":
            return (lambda _client: True) if value == b"default" else f"ERR No such user '{shown}'"
    return "ERR syntax error"


def _is_at(address: str, client: ClientFacts) -> bool:
    return client.address == address


def _is_of_type(kind: bytes, client: ClientFacts) -> bool:
    return kind == (b"pubsub" if client.state.subscribed else b"normal")


def _list(state: ClientState, match: _Match) -> bytes:
    lines = [_line(client) for client in state.sidecar.clients() if match(client)]
    return state.verbatim(b"".join(lines))


def _line(client: ClientFacts) -> bytes:
    """Return one line in the format of Redis; fields about memory are 0."""
    state = client.state
    flags = ("P" if state.subscribed else "") + ("x" if state.queue is not None else "")
    name, command = replies.text(state.name), replies.text(state.last_command)
    line = (
        f"id={client.client_id} addr={client.address} laddr={client.local_address} fd=0 "
        f"name={name} age={client.age_seconds:.0f} idle=0 flags={flags or 'N'} db=0 "
        f"sub={len(state.held[Space.CHANNELS])} psub={len(state.held[Space.PATTERNS])} "
        f"ssub={len(state.held[Space.SHARDS])} "
        f"multi={-1 if state.queue is None else len(state.queue)} qbuf=0 qbuf-free=0 argv-mem=0 "
        "multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r "
        f"cmd={command} user={state.user} redir=-1 resp={3 if state.resp3 else 2}\n"
    )
    return line.encode("utf-8", "surrogateescape")
