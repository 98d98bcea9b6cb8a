"""The RESP door's pub/sub commands.

The state holds the subscriptions as of the requests handled so far, so confirmations with the right
counts can be made at once; the shell sends them when the nodes have confirmed.
"""

from collections.abc import Mapping

from fanout.values.names import SHARD_PREFIX, Space
from fanout.values.requests import Action, Ask, Publish, Question, Reply, Subscribe, Unsubscribe
from fanout.wire.limits import Access
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import KINDS, ClientState

_SPACES = {
    b"subscribe": Space.CHANNELS,
    b"psubscribe": Space.PATTERNS,
    b"ssubscribe": Space.SHARDS,
    b"unsubscribe": Space.CHANNELS,
    b"punsubscribe": Space.PATTERNS,
    b"sunsubscribe": Space.SHARDS,
}

_HELP = (
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "SHARDCHANNELS [<pattern>]",
    "    Return the currently active shard level channels matching a <pattern> (default: '*').",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers for the specified shard level channel(s)",
)


def is_allowed(access: Access, name: bytes, request: list[bytes]) -> bool:
    """Return whether a client may use the channels or patterns that a command names."""
    if name in (b"publish", b"spublish"):
        return access.may_publish(request[1])
    if name in (b"subscribe", b"ssubscribe"):
        return all(map(access.may_subscribe, request[1:]))
    return name != b"psubscribe" or all(map(access.may_psubscribe, request[1:]))


def publish(state: ClientState, request: list[bytes]) -> Action:
    """Publish a message."""
    _, channel, payload = request
    refusal = state.limits.check_name(channel) or state.limits.check_payload(payload)
    if refusal:
        return Reply(replies.error(f"ERR {refusal.message}"))
    return Publish(channel, payload)


def spublish(state: ClientState, request: list[bytes]) -> Action:
    """Publish a message to a shard channel."""
    action = publish(state, request)
    return Publish(SHARD_PREFIX + request[1], request[2]) if type(action) is Publish else action


def subscribe(state: ClientState, request: list[bytes]) -> Action:
    """Subscribe to channels, patterns or shard channels; each is confirmed with a count."""
    verb = request[0].lower()
    space, names = _SPACES[verb], request[1:]
    held = state.held[space]
    if refusal := state.limits.check_subscribe(KINDS[space], held, names):
        return Reply(replies.error(f"ERR {refusal.message}"))
    new: list[bytes] = []
    reply: list[bytes] = []
    for name in names:
        if name not in held:
            state.hold(space, name)
            new.append(name)
        reply.append(replies.confirmation(verb, name, state.count(space), resp3=state.resp3))
    return Subscribe(KINDS[space], _carried(space, new), b"".join(reply))


def unsubscribe(state: ClientState, request: list[bytes]) -> Action:
    """Unsubscribe from names, or from all in the order they were subscribed; each is confirmed."""
    verb = request[0].lower()
    space = _SPACES[verb]
    held = state.held[space]
    dropped: list[bytes] = []
    reply: list[bytes] = []
    for name in request[1:] or list(held):
        if name in held:
            state.drop(space, name)
            dropped.append(name)
        reply.append(replies.confirmation(verb, name, state.count(space), resp3=state.resp3))
    if not reply:
        reply.append(replies.confirmation(verb, None, state.count(space), resp3=state.resp3))
    return Unsubscribe(KINDS[space], _carried(space, dropped), b"".join(reply))


def channels(state: ClientState, request: list[bytes]) -> Action:
    """List the channels, or shard channels, with subscribers."""
    if len(request) > 3:  # noqa: PLR2004
        return Reply(replies.syntax_error("PUBSUB", request[1]))
    shard = request[1].lower() == b"shardchannels"
    glob = request[2] if len(request) > 2 else None  # noqa: PLR2004
    if refusal := state.limits.check_length(glob or b""):
        return Reply(replies.error(f"ERR {refusal.message}"))

    def reply(counts: Mapping[bytes, int]) -> bytes:
        return replies.array(map(replies.bulk, counts))

    return Ask(Question(Space.SHARDS if shard else Space.CHANNELS, glob=glob), reply)


def numsub(_state: ClientState, request: list[bytes]) -> Action:
    """Count the subscribers of channels, or of shard channels."""
    shard = request[1].lower() == b"shardnumsub"
    names = tuple(request[2:])

    def reply(counts: Mapping[bytes, int]) -> bytes:
        parts = [(replies.bulk(name), replies.integer(counts.get(name, 0))) for name in names]
        return replies.array(part for pair in parts for part in pair)

    return Ask(Question(Space.SHARDS if shard else Space.CHANNELS, names), reply)


def numpat(_state: ClientState, _request: list[bytes]) -> Action:
    """Count the distinct patterns with subscribers."""
    return Ask(Question(Space.PATTERNS), lambda counts: replies.integer(len(counts)))


def pubsub_help(_state: ClientState, _request: list[bytes]) -> Action:
    """Return the help of PUBSUB."""
    return Reply(replies.help_text("PUBSUB", _HELP))


def _carried(space: Space, names: list[bytes]) -> tuple[bytes, ...]:
    """Return the names of these channels on the nodes."""
    if space is Space.SHARDS:
        return tuple(SHARD_PREFIX + name for name in names)
    return tuple(names)
