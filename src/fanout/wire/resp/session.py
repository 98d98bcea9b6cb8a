"""The session of one Redis client: the action of each request.

Pure: a request goes in, an action comes out, and the shell performs it. Checks are in the order of
Redis: known command, number of arguments, allowed in subscriber mode, queued by MULTI. Replies are
sent in the order of the requests.
"""

from collections.abc import Callable
from typing import Any

from fanout.values.names import Space
from fanout.values.requests import Action, Close, Encoding, Exec, Publish, Reply
from fanout.wire.limits import Access, ClientLimits
from fanout.wire.resp import client_command as client
from fanout.wire.resp import connection_commands as connection
from fanout.wire.resp import pubsub_commands as pubsub
from fanout.wire.resp import replies
from fanout.wire.resp import server_commands as server
from fanout.wire.resp.client_state import ClientState, Sidecar
from fanout.wire.resp.command_table import COMMANDS, CONTAINERS, Command
from fanout.wire.resp.heads import PublishHeadCache

_ERROR_ARGUMENTS_BYTES_MAX = 128
_REQUEST_OVERHEAD_BYTES = 64
"""The overhead of a queued argument."""

_NOPERM = "NOPERM this user has no permissions to access one of the channels used as arguments"
_NOPERM_AT_EXEC = (
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
    "call. This command is no longer allowed for the following reason: no permission to access "
    "the channel used as arguments to the command"
)
_READY_BYTES = 2048
"""The assumed size of a reply that is made when it is sent."""

_IN_SUBSCRIBED_MODE = frozenset(
    b"subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe ping quit reset".split()
)
_WITHOUT_LOGIN = frozenset((b"auth", b"hello", b"quit", b"reset"))
_NOT_QUEUED = frozenset((b"multi", b"exec", b"discard", b"watch", b"quit", b"reset"))

Handler = Callable[[ClientState, list[bytes]], Action]


def _multi(state: ClientState, _request: list[bytes]) -> Action:
    if state.queue is not None:
        return Reply(replies.error("ERR MULTI calls can not be nested"))
    state.queue = []
    return Reply(replies.OK)


def _discard(state: ClientState, _request: list[bytes]) -> Action:
    if state.queue is None:
        return Reply(replies.error("ERR DISCARD without MULTI"))
    state.forget_transaction()
    return Reply(replies.OK)


def _watch(state: ClientState, _request: list[bytes]) -> Action:
    """Accept WATCH: there are no keys, so none ever changes."""
    if state.queue is not None:
        return Reply(replies.error("ERR WATCH inside MULTI is not allowed"))
    return Reply(replies.OK)


def _exec(state: ClientState, _request: list[bytes]) -> Action:
    """Perform the queued requests. Whether the header is sent is decided before they can change it."""
    queue, failed = state.queue, state.queue_failed
    if queue is None:
        return Reply(replies.error("ERR EXEC without MULTI"))
    if failed:
        state.forget_transaction()
        return Reply(replies.error("EXECABORT Transaction discarded because of previous errors."))
    header = b"" if state.silent else b"*%d\r\n" % len(queue)
    actions: list[Action] = []
    room = limit = state.limits.transaction_bytes_max
    for request in queue:
        action = _answered(state, _run(state, request))
        actions.append(action)
        if isinstance(action, Reply):
            room -= len(action.data) if isinstance(action.data, bytes) else _READY_BYTES
        if room < 0:  # short requests may have long replies, and all are sent as one
            why = f"the replies would be over the limit of {limit} bytes (transaction-bytes-max)"
            return Close(replies.error(f"EXECABORT Nothing is done: {why}"), why)
    state.forget_transaction()
    return Exec(header, tuple(actions))


def _run(state: ClientState, request: list[bytes]) -> Action:
    """Handle one request of a transaction; rights may have changed since it was queued."""
    name = _full_name(request)
    if name == b"ssubscribe":
        return Reply(replies.error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"))
    if state.access is not None and not pubsub.is_allowed(state.access, name, request):
        return Reply(replies.error(_NOPERM_AT_EXEC))
    return _HANDLERS[name](state, request)


_HANDLERS: dict[bytes, Handler] = {
    b"auth": connection.auth,
    b"client|getname": client.getname,
    b"client|help": client.client_help,
    b"client|id": client.client_id,
    b"client|info": client.info,
    b"client|kill": client.kill,
    b"client|list": client.list_clients,
    b"client|no-evict": client.on_off,
    b"client|no-touch": client.on_off,
    b"client|reply": client.reply,
    b"client|setinfo": connection.done,
    b"client|setname": client.setname,
    b"command": server.command,
    b"command|count": server.command_count,
    b"command|docs": server.command_docs,
    b"command|help": server.command_help,
    b"command|info": server.command,
    b"command|list": server.command_list,
    b"config|get": server.config_get,
    b"config|help": server.config_help,
    b"discard": _discard,
    b"echo": connection.echo,
    b"exec": _exec,
    b"hello": connection.hello,
    b"info": server.info,
    b"multi": _multi,
    b"ping": connection.ping,
    b"psubscribe": pubsub.subscribe,
    b"publish": pubsub.publish,
    b"pubsub|channels": pubsub.channels,
    b"pubsub|help": pubsub.pubsub_help,
    b"pubsub|numpat": pubsub.numpat,
    b"pubsub|numsub": pubsub.numsub,
    b"pubsub|shardchannels": pubsub.channels,
    b"pubsub|shardnumsub": pubsub.numsub,
    b"punsubscribe": pubsub.unsubscribe,
    b"quit": connection.close,
    b"reset": connection.reset,
    b"select": connection.select,
    b"spublish": pubsub.spublish,
    b"ssubscribe": pubsub.subscribe,
    b"subscribe": pubsub.subscribe,
    b"sunsubscribe": pubsub.unsubscribe,
    b"time": server.time,
    b"unsubscribe": pubsub.unsubscribe,
    b"unwatch": connection.done,
    b"watch": _watch,
}


class Session:
    """The session of one client."""

    def __init__(
        self,
        client_id: int,
        sidecar: Sidecar,
        limits: ClientLimits,
        heads: PublishHeadCache | None = None,
    ) -> None:
        self.state = ClientState(client_id, sidecar, limits)
        self.plain = not self.state.locked
        """Whether a PUBLISH is neither refused, queued nor unanswered."""
        self._heads = heads or PublishHeadCache()  # shared by the clients of a door

    @property
    def encoding(self) -> Encoding:
        """The encoding of deliveries to this client."""
        return self.state.encoding

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return self.state.subscribed

    @property
    def locked(self) -> bool:
        """Whether the client must log in before anything else."""
        return self.state.locked

    @property
    def access(self) -> Any:
        """The rights of the client; None before it has logged in, and without users."""
        return self.state.access

    def may_keep(self, access: Access) -> bool:
        """Replace the client's rights; return whether they allow its subscriptions."""
        self.state.access = access
        held = self.state.held
        channels = (*held[Space.CHANNELS], *held[Space.SHARDS])
        return all(map(access.may_subscribe, channels)) and all(
            map(access.may_psubscribe, held[Space.PATTERNS])
        )

    def known(self, head: bytes) -> bytes | None:
        """Return the channel of a PUBLISH that begins like this; None if `handle` must decide."""
        channel = self._heads.channels.get(head)
        access = self.state.access
        if access is None or channel is None or access.may_publish(channel):
            return channel
        return None

    def close(self) -> None:
        """Release what the client holds, after its connection has ended."""
        self.state.drop_all()

    def handle(self, request: list[bytes]) -> Action:
        """Return the action of a request. Never raises, whatever a client sends."""
        state = self.state
        action = _answered(state, _handle(state, request))
        state.reply_skip, state.reply_skip_next = state.reply_skip_next, False
        if self.plain and type(action) is Publish and state.last_command == b"publish":
            self._heads.learn(request[0], request[1], len(request[2]))
        self.plain = (
            (state.resp3 or not state.subscribed)
            and state.queue is None
            and not state.silent
            and not state.locked
        )
        return action


def _handle(state: ClientState, request: list[bytes]) -> Action:
    name = _full_name(request)
    command = COMMANDS.get(name)
    refusal = _refusal(state, request, name, command)
    if refusal:
        if state.queue is not None:
            state.queue_failed = True
        if name == b"exec":
            state.forget_transaction()
            refusal = f"EXECABORT Transaction discarded because of: {refusal[4:]}"
        return Reply(replies.error(refusal))
    state.last_command = name
    if state.queue is not None and name not in _NOT_QUEUED:
        return _queued(state, request)
    return _HANDLERS[name](state, request)


def _queued(state: ClientState, request: list[bytes]) -> Action:
    assert state.queue is not None  # noqa: S101 - asked by the caller
    state.queue_bytes += sum(map(len, request)) + _REQUEST_OVERHEAD_BYTES * len(request)
    limit = state.limits.transaction_bytes_max
    if state.queue_bytes > limit:
        state.queue.clear()
        state.queue_failed = True
        return Reply(
            replies.error(
                f"ERR transaction is over the limit of {limit} bytes (transaction-bytes-max)"
            )
        )
    state.queue.append(request)
    return Reply(replies.simple(b"QUEUED"))


def _answered(state: ClientState, action: Action) -> Action:
    return connection.silenced(action) if state.silent else action


def _full_name(request: list[bytes]) -> bytes:
    """Return the full name of a command, also of an unknown subcommand."""
    verb = request[0].lower()
    if verb in CONTAINERS and len(request) > 1:
        return verb + b"|" + request[1].lower()
    return b"" if b"|" in verb else verb


def _refusal(state: ClientState, request: list[bytes], name: bytes, command: Command | None) -> str:
    """Return the error of a request that cannot be served now; empty if it can."""
    if command is None:
        verb = request[0].lower()
        if verb in CONTAINERS:
            shown = replies.text(request[1][:_ERROR_ARGUMENTS_BYTES_MAX])
            return f"ERR unknown subcommand '{shown}'. Try {verb.decode().upper()} HELP."
        return _unknown_command(request)
    if not command.accepts(len(request)):
        return f"ERR wrong number of arguments for '{replies.text(name)}' command"
    if state.locked and name not in _WITHOUT_LOGIN:
        return "NOAUTH Authentication required."
    if state.access is not None and not pubsub.is_allowed(state.access, name, request):
        return _NOPERM
    if not state.resp3 and name not in _IN_SUBSCRIBED_MODE and state.subscribed:
        return (
            f"ERR Can't execute '{replies.text(name)}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / "
            "PING / QUIT / RESET are allowed in this context"
        )
    return ""


def _unknown_command(request: list[bytes]) -> str:
    """Return the error of an unknown command, with as much of its arguments as Redis shows."""
    shown = ""
    for argument in request[1:]:
        if len(shown) >= _ERROR_ARGUMENTS_BYTES_MAX:
            break
        shown += f"'{replies.text(argument[: _ERROR_ARGUMENTS_BYTES_MAX - len(shown)])}' "
    verb = replies.text(request[0][:_ERROR_ARGUMENTS_BYTES_MAX])
    return f"ERR unknown command '{verb}', with args beginning with: {shown}"
