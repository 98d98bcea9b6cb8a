"""What the RESP door serves, as data: what Redis 7 says of each command with COMMAND.

A row is the name, the arity as Redis counts it (the verb included, negative for at least so many),
flags, categories, the place of keys, hints for proxies, since when and in which group, and a
summary. Names with a bar are subcommands.
"""

from collections.abc import Iterable
from functools import cache

import attrs

from fanout.wire.resp import replies

_ROWS = """
auth | -2 | noscript loading stale fast no_auth allow_busy | fast connection | 0 0 0 | | 1.0.0 connection | Authenticate to the server
client | -2 | | slow | 0 0 0 | | 2.4.0 connection | A container for client connection commands
client|getname | 2 | noscript loading stale | slow connection | 0 0 0 | | 2.6.9 connection | Get the current connection name
client|help | 2 | loading stale | slow connection | 0 0 0 | | 5.0.0 connection | Show helpful text about the different subcommands
client|id | 2 | noscript loading stale | slow connection | 0 0 0 | | 5.0.0 connection | Returns the client ID for the current connection
client|info | 2 | noscript loading stale | slow connection | 0 0 0 | nondeterministic_output | 6.2.0 connection | Returns information about the current client connection.
client|kill | -3 | admin noscript loading stale | admin slow dangerous connection | 0 0 0 | | 2.4.0 connection | Kill the connection of a client
client|list | -2 | admin noscript loading stale | admin slow dangerous connection | 0 0 0 | nondeterministic_output | 2.4.0 connection | Get the list of client connections
client|no-evict | 3 | admin noscript loading stale | admin slow dangerous connection | 0 0 0 | | 7.0.0 connection | Set client eviction mode for the current connection
client|no-touch | 3 | noscript loading stale | slow connection | 0 0 0 | | 7.2.0 connection | Controls whether commands sent by the client affect the LRU/LFU of accessed keys.
client|reply | 3 | noscript loading stale | slow connection | 0 0 0 | | 3.2.0 connection | Instruct the server whether to reply to commands
client|setinfo | 4 | noscript loading stale | slow connection | 0 0 0 | | 7.2.0 connection | Sets information specific to the client or connection.
client|setname | 3 | noscript loading stale | slow connection | 0 0 0 | | 2.6.9 connection | Set the current connection name
command | -1 | loading stale | slow connection | 0 0 0 | nondeterministic_output_order | 2.8.13 server | Get array of Redis command details
command|count | 2 | loading stale | slow connection | 0 0 0 | | 2.8.13 server | Get total number of Redis commands
command|docs | -2 | loading stale | slow connection | 0 0 0 | nondeterministic_output_order | 7.0.0 server | Get array of specific Redis command documentation
command|help | 2 | loading stale | slow connection | 0 0 0 | | 5.0.0 server | Show helpful text about the different subcommands
command|info | -2 | loading stale | slow connection | 0 0 0 | nondeterministic_output_order | 2.8.13 server | Get array of specific Redis command details, or all when no argument is given.
command|list | -2 | loading stale | slow connection | 0 0 0 | nondeterministic_output_order | 7.0.0 server | Get an array of Redis command names
config | -2 | | slow | 0 0 0 | | 2.0.0 server | A container for server configuration commands
config|get | -3 | admin noscript loading stale | admin slow dangerous | 0 0 0 | | 2.0.0 server | Get the values of configuration parameters
config|help | 2 | loading stale | slow | 0 0 0 | | 5.0.0 server | Show helpful text about the different subcommands
discard | 1 | noscript loading stale fast allow_busy | fast transaction | 0 0 0 | | 2.0.0 transactions | Discard all commands issued after MULTI
echo | 2 | loading stale fast | fast connection | 0 0 0 | | 1.0.0 connection | Echo the given string
exec | 1 | noscript loading stale skip_slowlog | slow transaction | 0 0 0 | | 1.2.0 transactions | Execute all commands issued after MULTI
hello | -1 | noscript loading stale fast no_auth allow_busy | fast connection | 0 0 0 | | 6.0.0 connection | Handshake with Redis
info | -1 | loading stale | slow dangerous | 0 0 0 | nondeterministic_output request_policy:all_shards response_policy:special | 1.0.0 server | Get information and statistics about the server
multi | 1 | noscript loading stale fast allow_busy | fast transaction | 0 0 0 | | 1.2.0 transactions | Mark the start of a transaction block
ping | -1 | fast | fast connection | 0 0 0 | request_policy:all_shards response_policy:all_succeeded | 1.0.0 connection | Ping the server
psubscribe | -2 | pubsub noscript loading stale | pubsub slow | 0 0 0 | | 2.0.0 pubsub | Listen for messages published to channels matching the given patterns
publish | 3 | pubsub loading stale fast | pubsub fast | 0 0 0 | | 2.0.0 pubsub | Post a message to a channel
pubsub | -2 | | slow | 0 0 0 | | 2.8.0 pubsub | A container for Pub/Sub commands
pubsub|channels | -2 | pubsub loading stale | pubsub slow | 0 0 0 | | 2.8.0 pubsub | List active channels
pubsub|help | 2 | loading stale | slow | 0 0 0 | | 6.2.0 pubsub | Show helpful text about the different subcommands
pubsub|numpat | 2 | pubsub loading stale | pubsub slow | 0 0 0 | | 2.8.0 pubsub | Get the count of unique patterns pattern subscriptions
pubsub|numsub | -2 | pubsub loading stale | pubsub slow | 0 0 0 | | 2.8.0 pubsub | Get the count of subscribers for channels
pubsub|shardchannels | -2 | pubsub loading stale | pubsub slow | 0 0 0 | | 7.0.0 pubsub | List active shard channels
pubsub|shardnumsub | -2 | pubsub loading stale | pubsub slow | 0 0 0 | | 7.0.0 pubsub | Get the count of subscribers for shard channels
punsubscribe | -1 | pubsub noscript loading stale | pubsub slow | 0 0 0 | | 2.0.0 pubsub | Stop listening for messages posted to channels matching the given patterns
quit | -1 | noscript loading stale fast no_auth allow_busy | fast connection | 0 0 0 | | 1.0.0 connection | Close the connection
reset | 1 | noscript loading stale fast no_auth allow_busy | fast connection | 0 0 0 | | 6.2.0 connection | Reset the connection
select | 2 | loading stale fast | fast connection | 0 0 0 | | 1.0.0 connection | Change the selected database for the current connection
spublish | 3 | pubsub loading stale fast | pubsub fast | 1 1 1 | | 7.0.0 pubsub | Post a message to a shard channel
ssubscribe | -2 | pubsub noscript loading stale | pubsub slow | 1 -1 1 | | 7.0.0 pubsub | Listen for messages published to the given shard channels
subscribe | -2 | pubsub noscript loading stale | pubsub slow | 0 0 0 | | 2.0.0 pubsub | Listen for messages published to the given channels
sunsubscribe | -1 | pubsub noscript loading stale | pubsub slow | 1 -1 1 | | 7.0.0 pubsub | Stop listening for messages posted to the given shard channels
time | 1 | loading stale fast | fast | 0 0 0 | nondeterministic_output | 2.6.0 server | Return the current server time
unsubscribe | -1 | pubsub noscript loading stale | pubsub slow | 0 0 0 | | 2.0.0 pubsub | Stop listening for messages posted to the given channels
unwatch | 1 | noscript loading stale fast allow_busy | fast transaction | 0 0 0 | | 2.2.0 transactions | Forget about all watched keys
watch | -2 | noscript loading stale fast allow_busy | fast transaction | 1 -1 1 | | 2.2.0 transactions | Watch the given keys to determine execution of the MULTI/EXEC block
"""


@attrs.frozen(slots=True)
class Command:
    """What Redis says of one command."""

    name: bytes
    arity: int
    flags: tuple[bytes, ...]
    categories: tuple[bytes, ...]
    keys: tuple[int, ...]
    tips: tuple[bytes, ...]
    since: bytes
    group: bytes
    summary: bytes

    def accepts(self, count: int) -> bool:
        """Return whether so many words, the verb included, are allowed."""
        return count == self.arity if self.arity > 0 else count >= -self.arity


def _read(row: str) -> Command:
    name, arity, flags, categories, keys, tips, origin, summary = row.encode().split(b" | ")
    since, group = origin.split()
    return Command(
        name,
        int(arity),
        tuple(flags.split()),
        tuple(categories.split()),
        tuple(map(int, keys.split())),
        tuple(tips.split()),
        since,
        group,
        summary,
    )


COMMANDS = {
    command.name: command for command in map(_read, _ROWS.replace("| |", "|  |").split("\n")[1:-1])
}
"""Every command and subcommand, by its full name in small letters."""

TOP = tuple(name for name in COMMANDS if b"|" not in name)
"""The names that a request may begin with."""

CONTAINERS = frozenset(name.split(b"|")[0] for name in COMMANDS if b"|" in name)
"""The commands that have subcommands."""


def _subcommands(name: bytes) -> Iterable[bytes]:
    return (each for each in COMMANDS if each.startswith(name + b"|"))


@cache
def describe(name: bytes, *, resp3: bool) -> bytes:
    """Encode a command as COMMAND INFO does."""
    command = COMMANDS[name]
    sets = b"~" if resp3 else b"*"

    def collection(items: Iterable[bytes]) -> bytes:
        return sets + replies.array(items)[1:]

    return replies.array(
        (
            replies.bulk(name),
            replies.integer(command.arity),
            collection(map(replies.simple, command.flags)),
            *map(replies.integer, command.keys),
            collection(replies.simple(b"@" + each) for each in command.categories),
            collection(map(replies.bulk, command.tips)),
            collection(()),  # key specifications
            (replies.array if name in CONTAINERS else collection)(
                describe(each, resp3=resp3) for each in _subcommands(name)
            ),
        )
    )


@cache
def document(name: bytes, *, resp3: bool) -> bytes:
    """Encode what COMMAND DOCS says of a command, without its arguments."""
    command = COMMANDS[name]
    facts = [
        (replies.bulk(b"summary"), replies.bulk(command.summary)),
        (replies.bulk(b"since"), replies.bulk(command.since)),
        (replies.bulk(b"group"), replies.bulk(command.group)),
    ]
    if name in CONTAINERS:
        subcommands = [
            (replies.bulk(each), document(each, resp3=resp3)) for each in _subcommands(name)
        ]
        facts.append((replies.bulk(b"subcommands"), replies.mapping(subcommands, resp3=resp3)))
    return replies.mapping(facts, resp3=resp3)
