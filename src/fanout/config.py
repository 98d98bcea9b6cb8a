"""Every setting of the two commands: one table for flags, environment, files and help.

A field's metadata says what it means, in which unit, and what raising it costs. Nothing here reads
the environment; the commands collect a mapping of texts and numbers and hand it over.

Long because every option explains itself where it is defined, and nowhere else.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import attrs
from redis.connection import parse_url

from fanout.errors import ConfigError
from fanout.values import Endpoint

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCAL_NODES_MAX = 16


@attrs.frozen
class RedisAddress:
    """Where a Redis is and how to log in."""

    endpoint: Endpoint
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `redis://[user:password@]host[:port][/db]` or `unix://path[?db=n]`.

        Raises:
            ConfigError: the text has another form. The message does not repeat a password.

        """
        shown = re.sub(r"//[^@/]*@", "//***@", text)
        if not text.startswith(("redis://", "unix://")):
            raise ConfigError(f"{shown!r} is no Redis URL; write redis://HOST:PORT or unix:///PATH")
        try:
            parts = parse_url(text)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ConfigError(f"{shown!r} is no Redis URL: {error}") from None
        if text.startswith("unix://"):
            endpoint = Endpoint(path=parts.get("path", ""))
        else:
            endpoint = Endpoint(host=parts.get("host", "127.0.0.1"), port=parts.get("port", 6379))
        if not (endpoint.path or endpoint.host):
            raise ConfigError(f"{shown!r} names no address")
        return cls(
            endpoint=endpoint,
            username=parts.get("username", ""),
            password=parts.get("password", ""),
            database=int(parts.get("db", 0)),
        )

    def __str__(self) -> str:
        return str(self.endpoint)


@attrs.frozen
class DiscoveryAddress:
    """One discovery instance: a primary, and read replicas that take the reads."""

    primary: RedisAddress
    replicas: tuple[RedisAddress, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `URL[,URL...]`: the primary, then its replicas. Raises ConfigError."""
        primary, *replicas = [RedisAddress.parse(url) for url in text.split(",")]
        return cls(primary, tuple(replicas))


def _discovery(value: Any) -> tuple[DiscoveryAddress, ...]:
    texts = value.split() if isinstance(value, str) else value
    return tuple(DiscoveryAddress.parse(str(text)) for text in texts)


def _name(value: Any) -> str:
    if not _NAME.fullmatch(str(value)):
        raise ConfigError(
            f"{value!r} is not allowed; use 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit first"
        )
    return str(value)


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(f"{value!r} is not allowed; give a number of seconds over 0")
    return number


def _count(least: int, most: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ConfigError(f"{value!r} is not allowed; give a whole number {least} to {most}")
        return number

    return convert


def _choice(*allowed: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in allowed:
            raise ConfigError(f"{value!r} is not allowed; choose {', '.join(allowed)}")
        return str(value)

    return convert


def _endpoint(value: Any) -> Endpoint:
    return Endpoint.parse(str(value))


def _tcp_endpoint(value: Any) -> Endpoint:
    endpoint = Endpoint.parse(str(value))
    if endpoint.path:
        raise ConfigError(f"{value!r} is not allowed; give HOST:PORT")
    return endpoint


def _redis(value: Any) -> RedisAddress:
    return RedisAddress.parse(str(value))


def option(default: Any, convert: Callable[[Any], Any], metavar: str, text: str) -> Any:
    """Return an attrs field that is an option: `convert` reads texts and raises ConfigError."""
    return attrs.field(
        default=default, metadata={"convert": convert, "metavar": metavar, "help": text}
    )


_BYTES_MAX = 2**31 - 1


@attrs.frozen(kw_only=True)
class Timings:
    """How often and how long, in seconds."""

    heartbeat_interval_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "Time between heartbeats to discovery. Raising it saves writes and delays the notice of a crash.",
    )  # fmt: skip
    lease_seconds: float = option(
        10.0, _seconds, "SECONDS",
        "How long a record is believed without a heartbeat. Raising it keeps crashed nodes listed longer.",
    )  # fmt: skip
    poll_interval_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "Time between reads of discovery when no hint comes. Raising it saves reads and delays changes whose hint was lost.",
    )  # fmt: skip
    probe_interval_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "Silence of a node after which a probe is published. Raising it delays the notice of a node that does not deliver.",
    )  # fmt: skip
    probe_timeout_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "How long a probe may take. Raising it tolerates slower nodes and delays the notice of stopped ones.",
    )  # fmt: skip
    connect_timeout_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "How long a connection or login may take. Raising it delays the next attempt.",
    )  # fmt: skip
    publish_timeout_seconds: float = option(
        2.0, _seconds, "SECONDS",
        "How long a publish may wait for its answer. Raising it makes clients wait longer for an error.",
    )  # fmt: skip
    join_timeout_seconds: float = option(
        30.0, _seconds, "SECONDS",
        "How long a joining node waits for sidecars to subscribe. Raising it lets one stuck sidecar delay a join longer.",
    )  # fmt: skip
    drain_timeout_seconds: float = option(
        60.0, _seconds, "SECONDS",
        "How long a draining node waits for sidecars to leave. Raising it lets one stuck sidecar delay a stop longer.",
    )  # fmt: skip
    reconnect_first_seconds: float = option(
        0.05, _seconds, "SECONDS",
        "Longest wait before the first reconnect. Raising it spreads reconnects and lengthens short outages.",
    )  # fmt: skip
    reconnect_max_seconds: float = option(
        5.0, _seconds, "SECONDS",
        "Longest wait between reconnects. Raising it saves attempts and delays the return after long outages.",
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if self.lease_seconds < 2 * self.heartbeat_interval_seconds:
            raise ConfigError(
                f"lease-seconds: {self.lease_seconds:g} is not allowed; it must be at least twice "
                f"heartbeat-interval-seconds ({self.heartbeat_interval_seconds:g})"
            )
        if self.reconnect_max_seconds < self.reconnect_first_seconds:
            raise ConfigError(
                f"reconnect-max-seconds: {self.reconnect_max_seconds:g} is not allowed; it must be "
                f"at least reconnect-first-seconds ({self.reconnect_first_seconds:g})"
            )


@attrs.frozen(kw_only=True)
class Limits:
    """What one local client, and all of them, may take."""

    payload_bytes_max: int = option(
        1_048_576, _count(1, 7_340_032), "BYTES",
        "Largest message. Raising it costs memory per client and nears Redis' own output limit of 8 MiB.",
    )  # fmt: skip
    channel_bytes_max: int = option(
        1024, _count(1, 65_536), "BYTES",
        "Longest channel or pattern. Raising it costs memory on every node for every name.",
    )  # fmt: skip
    outbox_bytes_max: int = option(
        8_388_608, _count(1024, _BYTES_MAX), "BYTES",
        "Bytes that may wait for one client before it is cut off. Raising it costs that much memory per slow client.",
    )  # fmt: skip
    clients_max: int = option(
        10_000, _count(1, 1_000_000), "COUNT",
        "Clients at each door. Raising it costs memory and file descriptors.",
    )  # fmt: skip
    write_timeout_seconds: float = option(
        10.0, _seconds, "SECONDS",
        "How long a client may take no bytes before it is cut off. Raising it holds its outbox longer.",
    )  # fmt: skip


_CLUSTER = (
    "default",
    _name,
    "NAME",
    "Fleet to belong to. Fleets on one discovery do not see each other.",
)
_LOG_LEVEL = (
    "info",
    _choice("debug", "info", "warning", "error"),
    "LEVEL",
    "Least important event that is logged.",
)
_LOG_FORMAT = (
    "auto",
    _choice("auto", "console", "json"),
    "FORMAT",
    "console, json, or auto: console on a terminal.",
)
_DISCOVERY = (
    (),
    _discovery,
    "URL[,URL...]",
    "A discovery Redis, then its read replicas. Repeat it for each independent instance.",
)


@attrs.frozen(kw_only=True)
class SidecarConfig:
    """Settings of fanout-sidecar."""

    id: str = option(
        "", _name, "NAME", "Name of this sidecar. Default: made of host name and process id."
    )
    cluster: str = option(*_CLUSTER)
    discovery: tuple[DiscoveryAddress, ...] = option(*_DISCOVERY)
    local: int = option(
        0,
        _count(0, LOCAL_NODES_MAX),
        "NODES",
        "Start a whole fleet of this many nodes on this machine, with discovery. Every node is one process more.",
    )
    resp: Endpoint = option(
        Endpoint("127.0.0.1", 6380),
        _endpoint,
        "ADDRESS",
        "Where Redis clients connect: HOST:PORT or unix:PATH; port 0 takes a free one.",
    )
    ws: Endpoint = option(
        Endpoint("127.0.0.1", 7380), _tcp_endpoint, "HOST:PORT", "Where websocket clients connect."
    )
    admin: Endpoint = option(
        Endpoint("127.0.0.1", 9380),
        _tcp_endpoint,
        "HOST:PORT",
        "Where /healthz and /readyz are served.",
    )
    timings: Timings = attrs.field(factory=Timings)
    limits: Limits = attrs.field(factory=Limits)
    log_level: str = option(*_LOG_LEVEL)
    log_format: str = option(*_LOG_FORMAT)

    def __attrs_post_init__(self) -> None:
        if bool(self.local) is bool(self.discovery):
            raise ConfigError("discovery: give either --discovery URL or --local NODES")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build it from option names and texts. Raises ConfigError."""
        return _build(cls, values)


@attrs.frozen(kw_only=True)
class NodeConfig:
    """Settings of fanout-node."""

    id: str = option(
        "",
        _name,
        "NAME",
        "Name of this node, unique in its fleet. Default: made of host name and port.",
    )
    cluster: str = option(*_CLUSTER)
    discovery: tuple[DiscoveryAddress, ...] = option(*_DISCOVERY)
    redis: RedisAddress | None = option(None, _redis, "URL", "Attach to this running Redis.")
    spawn: Endpoint | None = option(
        None,
        _tcp_endpoint,
        "HOST:PORT",
        "Start and supervise a Redis there; port 0 takes a free one.",
    )
    advertise: Endpoint | None = option(
        None,
        _tcp_endpoint,
        "HOST:PORT",
        "Address that sidecars reach the node at. Default: that of --redis or --spawn.",
    )
    timings: Timings = attrs.field(factory=Timings)
    log_level: str = option(*_LOG_LEVEL)
    log_format: str = option(*_LOG_FORMAT)

    def __attrs_post_init__(self) -> None:
        if not self.discovery:
            raise ConfigError("discovery: missing; give --discovery URL at least once")
        if (self.redis is None) is (self.spawn is None):
            raise ConfigError("redis: give either --redis URL or --spawn HOST:PORT")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build it from option names and texts. Raises ConfigError."""
        return _build(cls, values)


def options(config: type) -> dict[str, Any]:
    """Return name and attrs field of every option, parts included, in order."""
    found: dict[str, Any] = {}
    for field in attrs.fields(config):
        if field.name in _PARTS:
            found.update(options(_PARTS[field.name]))
        else:
            found[field.name] = field
    return found


_PARTS: dict[str, type] = {"timings": Timings, "limits": Limits}
_T = TypeVar("_T")


def _build(config: type[_T], values: Mapping[str, Any]) -> _T:
    known = options(config)
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{name}: no such setting{hint}")
    converted: dict[str, Any] = {}
    for name, value in values.items():
        try:
            converted[name] = known[name].metadata["convert"](value)
        except ConfigError as error:
            raise ConfigError(f"{name.replace('_', '-')}: {error}") from None
    parts = {
        part: kind(**{name: converted.pop(name) for name in options(kind) if name in converted})
        for part, kind in _PARTS.items()
        if hasattr(attrs.fields(config), part)  # type: ignore[arg-type]
    }
    return config(**converted, **parts)
