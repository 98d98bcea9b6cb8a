"""Commands about the server, which clients send when they connect."""

from fnmatch import fnmatchcase

import attrs

from fanout.values.requests import Action, Reply
from fanout.wire.resp import replies
from fanout.wire.resp.client_state import ClientState, SidecarFacts
from fanout.wire.resp.command_table import COMMANDS, TOP, describe, document
from fanout.wire.resp.connection_commands import REDIS_VERSION

_COMMAND_HELP = (
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
)

_CONFIG_HELP = (
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
)

_CONFIG = {
    "appendonly": "no",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "",
    "proto-max-bulk-len": "536870912",
    "save": "",
    "timeout": "0",
}
"""The settings of CONFIG GET, those of a Redis without data; the same in every sidecar."""

_CONFIG_PATTERN_MAX = 64
"""Longer patterns are ignored: fnmatch takes quadratic time, and caches them."""


def command(state: ClientState, request: list[bytes]) -> Action:
    """Return the description of all commands, or of those named."""
    names = [name.lower() for name in request[2:]] or TOP
    return Reply(
        replies.array(
            describe(name, resp3=state.resp3) if name in COMMANDS else state.null for name in names
        )
    )


def command_docs(state: ClientState, request: list[bytes]) -> Action:
    """Return the documentation of all commands, or of those named."""
    names = [name.lower() for name in request[2:]] or TOP
    pairs = [
        (replies.bulk(name), document(name, resp3=state.resp3))
        for name in names
        if name in COMMANDS
    ]
    return Reply(replies.mapping(pairs, resp3=state.resp3))


def command_count(_state: ClientState, _request: list[bytes]) -> Action:
    """Return the number of commands."""
    return Reply(replies.integer(len(TOP)))


def command_list(_state: ClientState, request: list[bytes]) -> Action:
    """Return the names of all commands; filters are not supported."""
    if len(request) > 2:  # noqa: PLR2004
        return Reply(replies.error("ERR syntax error"))
    return Reply(replies.array(map(replies.bulk, TOP)))


def command_help(_state: ClientState, _request: list[bytes]) -> Action:
    """Return the help of COMMAND."""
    return Reply(replies.help_text("COMMAND", _COMMAND_HELP))


def config_get(state: ClientState, request: list[bytes]) -> Action:
    """Return the settings that clients and benchmarks read; a name is returned as it was asked for."""
    found: dict[bytes, bytes] = {}
    for asked in request[2:]:
        lower = replies.text(asked).lower()
        if lower in _CONFIG:
            if asked.lower() not in {name.lower() for name in found}:
                found[asked] = _CONFIG[lower].encode()
        elif len(lower) <= _CONFIG_PATTERN_MAX:
            matching = (name for name in _CONFIG if fnmatchcase(name, lower))
            found.update({name.encode(): _CONFIG[name].encode() for name in matching})
    pairs = [(replies.bulk(name), replies.bulk(value)) for name, value in found.items()]
    return Reply(replies.mapping(pairs, resp3=state.resp3))


def config_help(_state: ClientState, _request: list[bytes]) -> Action:
    """Return the help of CONFIG."""
    return Reply(replies.help_text("CONFIG", _CONFIG_HELP))


def time(state: ClientState, _request: list[bytes]) -> Action:
    """Return the time of day in seconds and microseconds."""

    def reply() -> bytes:
        seconds, micros = divmod(state.sidecar.wall_microseconds(), 1_000_000)
        return replies.array((replies.bulk(b"%d" % seconds), replies.bulk(b"%d" % micros)))

    return Reply(reply)


def info(state: ClientState, request: list[bytes]) -> Action:
    """Return information about the sidecar, section by section."""
    wanted = {replies.text(name).lower() for name in request[1:]}
    everything = not wanted or bool(wanted & {"default", "all", "everything"})

    def reply() -> bytes:
        sections = [
            f"# {name}\r\n" + "".join(f"{key}:{value}\r\n" for key, value in fields.items())
            for name, fields in _sections(state.sidecar.facts()).items()
            if everything or name.lower() in wanted
        ]
        return state.verbatim("\r\n".join(sections).encode())

    return Reply(reply)


def _sections(facts: SidecarFacts) -> dict[str, dict[str, object]]:
    fields = attrs.asdict(facts, recurse=False)
    return {
        "Server": {
            "redis_version": REDIS_VERSION.decode(),
            "redis_mode": "standalone",
            "arch_bits": 64,
            **_pick(fields, "process_id", "run_id", "tcp_port", "uptime_in_seconds"),
            "uptime_in_days": facts.uptime_in_seconds // 86_400,
        },
        "Clients": _pick(fields, "connected_clients", "maxclients")
        | {"blocked_clients": 0, "tracking_clients": 0},
        "Persistence": {"loading": 0, "async_loading": 0},
        "Stats": _pick(
            fields,
            "total_connections_received",
            "pubsub_channels",
            "pubsub_patterns",
            "pubsubshard_channels",
        ),
        "Replication": {"role": "master", "connected_slaves": 0},
        "Cluster": {"cluster_enabled": 0},
        "Keyspace": {},
        "Fanout": dict(facts.fanout),
    }


def _pick(fields: dict[str, object], *names: str) -> dict[str, object]:
    return {name: fields[name] for name in names}
