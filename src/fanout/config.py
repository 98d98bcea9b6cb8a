"""Every setting of the two commands: one table for flags, environment, files and help.

A field's metadata says what it means, in which unit, and what raising it costs. Nothing here reads
the environment; the commands collect a mapping of texts and numbers and hand it over.

Long because every option explains itself where it is defined, and nowhere else.
"""

import base64
import difflib
import math
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

import attrs
from redis.connection import parse_url

from fanout.errors import ConfigError, SettingError
from fanout.values import NAME, PORT_MAX, Endpoint

_SCHEME = "(?:rediss?|unix)://"
LOCAL_NODES_MAX = 16
REDIS_PORT = 6379


def mask(value: object) -> str:
    """Return how `value` is shown in a message: without what may be a password.

    Everything up to the last `@` goes, and the query of a URL: when a URL is wrong, nobody can
    tell where its password was meant to end.
    """
    text = value if isinstance(value, str) else repr(value)
    text = re.sub(rf"^([^@:]*?{_SCHEME})?.*@", r"\1***@", text, flags=re.DOTALL)
    text = re.sub(r"\?.*", "?***", text, flags=re.DOTALL) if "://" in text else text
    return repr(text) if isinstance(value, str) else text


def split_urls(text: str, separator: str = ",") -> list[str]:
    """Split `URL,URL...` where another URL begins: half a password is never taken for a URL."""
    return re.split(rf"(?:{separator})(?={_SCHEME})", text)


def _url_fault(text: str, url: SplitResult) -> str:
    """Return what a Redis URL says that redis' own parser would pass over in silence."""
    unix = url.scheme == "unix"
    allowed = r"/.+" if unix else r"/?|/[0-9]+"
    if not text.startswith(("redis://", "rediss://", "unix://")):
        return "it does not begin so"
    if re.search(r"\s", text):
        return "it holds white space"
    if unix is bool(url.hostname):
        return "it names a host" if unix else "it names no host"
    if url.port == 0:
        return "port 0 cannot be connected to"
    if not re.fullmatch(allowed, url.path):
        return "it names no path" if unix else "its database is no number"
    query = parse_qsl(url.query, keep_blank_values=True)
    if url.fragment or (query and not unix) or any(key != "db" for key, _ in query):
        return "it has a query or fragment that means nothing here"
    if not all(number.isascii() and number.isdigit() for _, number in query):
        return "its database is no number"
    return ""


@attrs.frozen
class RedisAddress:
    """Where a Redis is and how to log in."""

    endpoint: Endpoint
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    database: int = 0
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path[?db=n]`.

        Raises:
            ConfigError: the text has another form. The message does not repeat a password.

        """
        try:
            url = urlsplit(text)
            fault = _url_fault(text, url)
        except ValueError:  # its message may repeat a piece of the password
            fault = "it cannot be read"
        if fault:
            raise ConfigError(
                f"{mask(text)} is no Redis URL: {fault}; write redis://HOST:PORT/DB, rediss: for TLS, or "
                "unix:///PATH?db=DB, with / ? # @ in a password as %2F %3F %23 %40"
            )
        parts = parse_url(text)  # type: ignore[no-untyped-call]
        return cls(
            endpoint=Endpoint(path=parts["path"])
            if url.scheme == "unix"
            else Endpoint(parts["host"], parts.get("port", REDIS_PORT)),
            username=parts.get("username", ""),
            password=parts.get("password", ""),
            database=parts.get("db", 0),
            tls=url.scheme == "rediss",
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
        primary, *replicas = [RedisAddress.parse(url) for url in split_urls(text)]
        return cls(primary, tuple(replicas))


def _discovery(value: Any) -> tuple[DiscoveryAddress, ...]:
    texts = split_urls(value.strip(), r"\s+") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise ConfigError(f"{mask(value)} is not allowed; give a URL or a list of URLs")
    return tuple(DiscoveryAddress.parse(str(text)) for text in texts)


def _name(value: Any) -> str:
    if not NAME.fullmatch(str(value)):
        raise ConfigError(
            f"{mask(value)} is not allowed; use 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit first"
        )
    return str(value)


def _seconds(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ConfigError(f"{mask(value)} is not allowed; give a number of seconds over 0")
    return number


def _count(least: int, most: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise ConfigError(
                f"{mask(value)} is not allowed; give a whole number {least} to {most}"
            )
        return number

    return convert


def _choice(*allowed: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in allowed:
            raise ConfigError(f"{mask(value)} is not allowed; choose {', '.join(allowed)}")
        return str(value)

    return convert


def _endpoint(value: Any) -> Endpoint:
    text = str(value)
    if not text.startswith("unix:") and ("//" in text or "@" in text):
        raise ConfigError(f"{mask(value)} is not allowed; give HOST:PORT or unix:PATH, not a URL")
    return Endpoint.parse(text)


def _tcp_endpoint(value: Any) -> Endpoint:
    endpoint = _endpoint(value)
    if endpoint.path:
        raise ConfigError(f"{mask(value)} is not allowed; give HOST:PORT")
    return endpoint


def _fixed_endpoint(value: Any) -> Endpoint:
    endpoint = _tcp_endpoint(value)
    if not endpoint.port:
        raise ConfigError(f"{mask(value)} is not allowed; port 0 cannot be connected to")
    return endpoint


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError("what was given is not allowed; give printable text")
    return value


def _words(value: Any, form: str, example: str) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ConfigError(f"{mask(value)} is not allowed; give a text or a list of texts")
    for word in words:
        if not isinstance(word, str) or not re.fullmatch(form, word):
            raise ConfigError(f"{mask(word)} is not allowed; write {example}")
    return tuple(words)


def _origins(value: Any) -> tuple[str, ...]:
    form = r"null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s@]+"
    return _words(value, form, "SCHEME://HOST or SCHEME://HOST:PORT, or null for local files")


def _hosts(value: Any) -> tuple[str, ...]:
    return _words(
        value, r"[^/\s@:]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*", "a name or an address, without port"
    )


def _redis(value: Any) -> RedisAddress:
    return RedisAddress.parse(str(value))


GATEWAY_ADDRESS_MAX = 256
GATEWAY_IPS_MAX = 16
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?P<port>:[0-9]{1,5})?(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:%/-]*)?"
)


def gateway_address(value: Any) -> str:
    """Read where users reach an instance; it goes into redirects. Raises ConfigError."""
    text = str(value)
    found = _ADDRESS.fullmatch(text)
    port = found and found["port"]
    if (
        len(text) > GATEWAY_ADDRESS_MAX
        or not found
        or not (found["scheme"] or (port and not found["path"]))
        or (port and not 0 < int(port[1:]) <= PORT_MAX)
    ):
        raise ConfigError(
            f"{mask(value)} is not allowed; write SCHEME://HOST[:PORT][/PATH] or HOST:PORT"
        )
    return text


def gateway_host(address: str) -> str:
    """Return the host of an address of an instance, without brackets."""
    found = _ADDRESS.fullmatch(address)
    return found["host"].strip("[]") if found else ""


def gateway_ips(value: Any) -> tuple[str, ...]:
    """Read IP addresses; each is returned in its usual form. Raises ConfigError."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or len(words) > GATEWAY_IPS_MAX:
        raise ConfigError(f"{mask(value)} is not allowed; give at most {GATEWAY_IPS_MAX} addresses")
    try:
        found = [ip_address(str(word)) for word in words]
    except ValueError:
        found = []
    # What holds on one interface only, as in fe80::1%eth0, means nothing to others.
    if len(found) != len(words) or any(getattr(each, "scope_id", None) for each in found):
        raise ConfigError(
            f"{mask(value)} is not allowed; give an IP address, IPv4 or IPv6, without port"
        )
    return tuple(map(str, found))


gateway_weight = _count(1, 1000)
"""Reads the weight of an instance. Raises ConfigError."""


def _pause(value: Any) -> float:
    return 0.0 if str(value) in ("0", "0.0") else _seconds(value)


def _url(*schemes: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        try:
            url = urlsplit(str(value))
            plain = url.scheme in schemes and url.hostname and url.port != 0
        except ValueError:
            plain = False
        if not plain or re.search(r"[\s@?#]", str(value)):
            raise ConfigError(f"{mask(value)} is not allowed; write {schemes[0]}://HOST:PORT")
        return str(value)

    return convert


def _headers(value: Any) -> tuple[tuple[str, str], ...]:
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, list | tuple):
        raise ConfigError("what was given is not allowed; give a text or a list of texts")
    found = [re.fullmatch(r"([A-Za-z0-9-]+): *([!-~]+(?: +[!-~]+)*)", str(line)) for line in lines]
    if not all(found):  # it may be a secret, so it is not repeated
        raise ConfigError("a header that was given is not allowed; write NAME: VALUE in ASCII")
    return tuple((match[1], match[2]) for match in found if match)


def _call(*placeholders: str) -> Callable[[Any], tuple[str, str, str]]:
    """Read a request as `METHOD URL`, with a body behind it if there is one."""

    def convert(value: Any) -> tuple[str, str, str]:
        call = re.fullmatch(r"([A-Z]+) (https?://[^/\s@{}]+(?:/\S*)?)(?: (.+))?", str(value))
        named = set(re.findall(r"\{([a-z_]+)\}", str(value)))
        if call is None or named - set(placeholders) or bool(named) is not bool(placeholders):
            form = f" with {' or '.join(f'{{{name}}}' for name in placeholders)}" * bool(
                placeholders
            )
            raise ConfigError(
                f"{mask(value)} is not allowed; write METHOD URL or METHOD URL BODY{form}"
            )
        return call[1], call[2], call[3] or ""

    return convert


def option(
    default: Any,
    convert: Callable[[Any], Any],
    metavar: str,
    text: str,
    *,
    group: str = "Connection",
    repeatable: bool = False,
    secret: bool = False,
) -> Any:
    """Return an attrs field that is an option.

    Args:
        default: its value when no source gives one.
        convert: reads a text, number or list; raises ConfigError.
        metavar: the form or the unit of the value, in capitals.
        text: what it means, and what raising it costs.
        group: heading of the help it stands under; a part's options stand under the part's name.
        repeatable: whether it may be given several times; its value is then a tuple.
        secret: whether it is refused on the command line and never shown.

    """
    metadata = {
        "convert": convert,
        "metavar": metavar,
        "help": text,
        "group": group,
        "repeatable": repeatable,
        "secret": secret,
    }
    return attrs.field(default=default, metadata=metadata, repr=not secret)


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
            raise SettingError(
                f"lease-seconds: {self.lease_seconds:g} is not allowed; it must be at least twice "
                f"heartbeat-interval-seconds ({self.heartbeat_interval_seconds:g})",
                "lease_seconds",
                "heartbeat_interval_seconds",
            )
        if self.reconnect_max_seconds < self.reconnect_first_seconds:
            raise SettingError(
                f"reconnect-max-seconds: {self.reconnect_max_seconds:g} is not allowed; it must be "
                f"at least reconnect-first-seconds ({self.reconnect_first_seconds:g})",
                "reconnect_max_seconds",
                "reconnect_first_seconds",
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
    subscriptions_max: int = option(
        16_384, _count(1, 1_000_000), "COUNT",
        "Channels of one client. Raising it costs memory here and on every node for every channel.",
    )  # fmt: skip
    patterns_max: int = option(
        128, _count(1, 100_000), "COUNT",
        "Patterns of one client. Raising it costs every node and sidecar time with every message.",
    )  # fmt: skip
    distinct_patterns_max: int = option(
        512, _count(1, 100_000), "COUNT",
        "Different patterns of all clients together. Raising it costs every node time with every message.",
    )  # fmt: skip
    arguments_max: int = option(
        16_385, _count(16, 1_000_001), "COUNT",
        "Words of one Redis command; a client that reconnects subscribes to all its channels with one. Raising it costs memory per client.",
    )  # fmt: skip
    transaction_bytes_max: int = option(
        8_388_608, _count(1024, _BYTES_MAX), "BYTES",
        "Commands that one client may queue between MULTI and EXEC, and their replies. Raising it costs that much memory per client.",
    )  # fmt: skip
    clients_max: int = option(
        10_000, _count(1, 1_000_000), "COUNT",
        "Clients at each door. Raising it costs memory and file descriptors.",
    )  # fmt: skip
    connects_per_second_max: int = option(
        1000, _count(1, 1_000_000), "COUNT",
        "New connections taken at each door in a second; more wait. Raising it lets a crowd that reconnects hold up the messages of those who are there.",
    )  # fmt: skip
    write_timeout_seconds: float = option(
        10.0, _seconds, "SECONDS",
        "How long a client may take no bytes before it is cut off. Raising it holds its outbox longer.",
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Gateway:
    """What a sidecar does for the pools of instances that users are handed out to."""

    gateway_pool: str = option(
        "", _name, "NAME",
        "Pool of instances that the service beside this sidecar belongs to, while the sidecar is ready. Default: none.",
    )  # fmt: skip
    gateway_address: str = option(
        "", gateway_address, "ADDRESS",
        "Where users reach the service: https://HOST[:PORT][/PATH], another scheme, or HOST:PORT.",
    )  # fmt: skip
    gateway_ip: tuple[str, ...] = option(
        (), gateway_ips, "IP",
        "Address of the service in DNS; repeat it for IPv4 and IPv6. Default: the host of --gateway-address, if that is an IP address.",
        repeatable=True,
    )  # fmt: skip
    gateway_weight: int = option(
        1, gateway_weight, "COUNT",
        "Share of new users beside the other instances' weights. Raising it sends more of them here.",
    )  # fmt: skip
    gateway_check: Endpoint | None = option(
        None, _fixed_endpoint, "HOST:PORT",
        "Where the service must take a connection at every heartbeat to be handed out. Default: it is not checked.",
    )  # fmt: skip
    gateway_drain_seconds: float = option(
        5.0, _seconds, "SECONDS",
        "How long a sidecar that was told to stop goes on serving while new users are sent elsewhere. Raising it past the TTL in DNS loses nobody, and delays every stop.",
    )  # fmt: skip
    gateway_affinity_seconds: float = option(
        86_400.0, _seconds, "SECONDS",
        "How long a token brings a user back to the same instance. Raising it keeps users unevenly spread longer after a change.",
    )  # fmt: skip
    gateway_serve: str = option(
        "no", _choice("no", "yes"), "YES|NO",
        "yes answers /gateway at the admin door also without a pool of its own.",
    )  # fmt: skip
    gateway_secret: str = option(
        "", _text, "TEXT",
        "Secret that signs the tokens, the same for all sidecars. Default: the fleet's secret; without both there are no tokens.",
        secret=True,
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if bool(self.gateway_pool) is not bool(self.gateway_address):
            missing, given = ("address", "pool") if self.gateway_pool else ("pool", "address")
            raise SettingError(
                f"gateway-{missing}: missing beside --gateway-{given}; give both, or none",
                f"gateway_{missing}",
                f"gateway_{given}",
            )


@attrs.frozen(kw_only=True)
class TlsFiles:
    """The settings that name certificates and keys; those that a command lacks are empty."""

    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_ca: str = ""
    tls_client_cert: str = ""
    tls_client_key: str = ""

    @classmethod
    def of(cls, config: object) -> Self:
        """Return those of a configuration."""
        return cls(**{name: getattr(config, name, "") for name in attrs.fields_dict(cls)})


def _file(text: str) -> Any:
    return option("", _text, "FILE", text, group="TLS")


def _tls_ca() -> Any:
    return _file(
        "PEM file of those who sign the certificates of discovery (rediss://) and of nodes. "
        "Default: those that this system trusts."
    )


def _tls_cert() -> Any:
    return _file(
        "PEM file of the certificate of the doors: they then speak TLS only. Read again on SIGHUP."
    )


def _tls_key() -> Any:
    return _file("PEM file of its key, if it is not in the same file.")


def _tls_client_ca() -> Any:
    return _file(
        "PEM file of those who sign the certificates of clients: the doors then ask for one."
    )


def _require_tls_cert(config: TlsFiles) -> None:
    if not config.tls_cert and (config.tls_key or config.tls_client_ca):
        raise SettingError(
            "tls-cert: missing beside --tls-key or --tls-client-ca; give the certificate too",
            "tls_cert",
            "tls_key",
            "tls_client_ca",
        )


def _is_wide(endpoint: Endpoint) -> bool:
    """Return whether others than this machine reach an address."""
    return not endpoint.path and not is_loopback(endpoint.host)


def _tls_client_cert() -> Any:
    return _file("PEM file of a certificate to show to discovery and nodes. Read again on SIGHUP.")


def _tls_client_key() -> Any:
    return _file("PEM file of its key, if it is not in the same file.")


def _cluster() -> Any:
    return option(
        "default", _name, "NAME",
        "Fleet to belong to. Fleets on one discovery do not see each other.",
    )  # fmt: skip


def _discovery_option() -> Any:
    return option(
        (), _discovery, "URL[,URL...]",
        "A discovery Redis, then its read replicas. Repeat it for each independent instance.",
        repeatable=True,
    )  # fmt: skip


def _secret() -> Any:
    return option(
        "", _text, "TEXT",
        "Secret of the fleet, the same for all nodes and sidecars: passwords of the nodes' users are made from it.",
        group="Nodes", secret=True,
    )  # fmt: skip


def _node_username() -> Any:
    return option(
        "", _text, "NAME",
        "User for nodes in cooperative mode, whose agent may not set up users of their own.",
        group="Nodes",
    )  # fmt: skip


def _node_password() -> Any:
    return option(
        "", _text, "TEXT", "Password for nodes in cooperative mode.", group="Nodes", secret=True
    )  # fmt: skip


def _log_level() -> Any:
    return option(
        "info", _choice("debug", "info", "warning", "error"), "LEVEL",
        "Least important event that is logged: debug, info, warning or error.",
        group="Logging",
    )  # fmt: skip


def _log_format() -> Any:
    return option(
        "auto", _choice("auto", "console", "json"), "FORMAT",
        "console, json, or auto: console on a terminal, else json.",
        group="Logging",
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class SidecarConfig:
    """Settings of fanout-sidecar."""

    id: str = option(
        "", _name, "NAME", "Name of this sidecar. Default: made of host name and process id."
    )
    cluster: str = _cluster()
    discovery: tuple[DiscoveryAddress, ...] = _discovery_option()
    local: int = option(
        0,
        _count(0, LOCAL_NODES_MAX),
        "NODES",
        "Start a whole fleet of this many nodes on this machine, with discovery. Raising it costs a process a node.",
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
        "Where /healthz, /readyz and /metrics are served.",
    )
    users: str = option(
        "",
        _text,
        "FILE",
        "TOML file of users and their rights: clients of resp and ws must then log in. "
        "Read again on SIGHUP. Default: anybody may do anything.",
        group="Access",
    )
    origin: tuple[str, ...] = option(
        (),
        _origins,
        "ORIGIN",
        "Web pages that may use the websocket and admin doors, exactly as browsers write it: "
        "https://app.example. Repeat it for each. Default: none.",
        group="Access",
        repeatable=True,
    )
    host: tuple[str, ...] = option(
        (),
        _hosts,
        "HOST",
        "Further names by which clients reach the websocket and admin doors. Repeat it for each. "
        "Default: the address itself, and localhost.",
        group="Access",
        repeatable=True,
    )
    serve_anybody: str = option(
        "no",
        _choice("no", "yes"),
        "YES|NO",
        "yes lets the doors be on addresses that others reach, though they ask nobody for a "
        "password: whoever connects can read and publish everything.",
        group="Access",
    )
    tls_cert: str = _tls_cert()
    tls_key: str = _tls_key()
    tls_client_ca: str = _tls_client_ca()
    tls_ca: str = _tls_ca()
    tls_client_cert: str = _tls_client_cert()
    tls_client_key: str = _tls_client_key()
    secret: str = _secret()
    node_username: str = _node_username()
    node_password: str = _node_password()
    timings: Timings = attrs.field(factory=Timings)
    limits: Limits = attrs.field(factory=Limits)
    gateway: Gateway = attrs.field(factory=Gateway)
    log_level: str = _log_level()
    log_format: str = _log_format()

    def __attrs_post_init__(self) -> None:
        _require_id(self.id)
        if self.local and self.discovery:
            raise SettingError(
                f"local: {self.local} is not allowed beside --discovery; give only one of them",
                "local",
                "discovery",
            )
        _require_tls_cert(TlsFiles.of(self))
        for name in ("resp", "ws", "admin"):
            endpoint = getattr(self, name)
            asks = bool(self.users) and name != "admin"
            if _is_wide(endpoint) and not asks and self.serve_anybody == "no":
                raise SettingError(
                    f"{name}: {endpoint} is not allowed: others reach it and it asks nobody for a "
                    "password; use 127.0.0.1, give --users FILE for resp and ws, or "
                    "--serve-anybody yes",
                    name,
                )
        if not self.local and not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once, or --local NODES",
                "discovery",
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        return _build(cls, values)


@attrs.frozen(kw_only=True)
class NodeConfig:
    """Settings of fanout-node."""

    id: str = option(
        "",
        _name,
        "NAME",
        "Name of this node, unique in its fleet; give one to keep it over restarts. "
        "Default: made of host name and process id.",
    )
    cluster: str = _cluster()
    discovery: tuple[DiscoveryAddress, ...] = _discovery_option()
    redis: RedisAddress | None = option(None, _redis, "URL", "Attach to this running Redis.")
    spawn: Endpoint | None = option(
        None,
        _tcp_endpoint,
        "HOST:PORT",
        "Start and supervise a Redis there; port 0 takes a free one.",
    )
    advertise: Endpoint | None = option(
        None,
        _fixed_endpoint,
        "HOST:PORT",
        "Address that sidecars reach the node at. Default: that of --redis or --spawn.",
    )
    admin: Endpoint | None = option(
        None,
        _tcp_endpoint,
        "HOST:PORT",
        "Where /healthz, /readyz and /metrics are served. Default: nowhere.",
    )
    host: tuple[str, ...] = option(
        (),
        _hosts,
        "HOST",
        "Further names by which the admin door is reached. Repeat it for each. Default: the "
        "address itself, and localhost.",
        group="Access",
        repeatable=True,
    )
    serve_anybody: str = option(
        "no",
        _choice("no", "yes"),
        "YES|NO",
        "yes lets the admin door be on an address that others reach, though it asks nobody for a "
        "password: whoever connects can read health and metrics.",
        group="Access",
    )
    tls_cert: str = _tls_cert()
    tls_key: str = _tls_key()
    tls_client_ca: str = _tls_client_ca()
    tls_ca: str = _tls_ca()
    tls_client_cert: str = _tls_client_cert()
    tls_client_key: str = _tls_client_key()
    secret: str = _secret()
    node_username: str = _node_username()
    node_password: str = _node_password()
    timings: Timings = attrs.field(factory=Timings)
    log_level: str = _log_level()
    log_format: str = _log_format()

    def __attrs_post_init__(self) -> None:
        _require_id(self.id)
        if not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once", "discovery"
            )
        _require_tls_cert(TlsFiles.of(self))
        if self.admin is not None and _is_wide(self.admin) and self.serve_anybody == "no":
            raise SettingError(
                f"admin: {self.admin} is not allowed: others reach it and it asks nobody for a "
                "password; use 127.0.0.1, or --serve-anybody yes",
                "admin",
            )
        if self.redis is None and self.spawn is None:
            raise SettingError("redis: missing; give --redis URL or --spawn HOST:PORT", "redis")
        if self.redis is not None and self.spawn is not None:
            raise SettingError(
                f"redis: {self.redis} is not allowed beside --spawn {self.spawn}; give only one",
                "redis",
                "spawn",
            )
        if self.spawn is not None and not self.secret and not is_loopback(self.spawn.host):
            raise SettingError(
                f"spawn: {self.spawn} is not allowed without a secret, since anybody who reaches "
                "it could publish; give the fleet's secret in FANOUT_SECRET or in a file by "
                "--config, or spawn on 127.0.0.1",
                "spawn",
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        return _build(cls, values)


@attrs.frozen(kw_only=True)
class FleetConfig:
    """Settings of the commands that look at a fleet from outside."""

    cluster: str = _cluster()
    discovery: tuple[DiscoveryAddress, ...] = _discovery_option()
    timeout_seconds: float = option(
        3.0, _seconds, "SECONDS",
        "How long a discovery instance may take to answer. Raising it makes an outage show later.",
    )  # fmt: skip
    tls_ca: str = _tls_ca()
    tls_client_cert: str = _tls_client_cert()
    tls_client_key: str = _tls_client_key()

    def __attrs_post_init__(self) -> None:
        if not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once", "discovery"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        return _build(cls, values)


def _dns_name(value: Any) -> str:
    text = str(value).rstrip(".").lower()
    labels = text.split(".")
    if len(text) > DNS_NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(
            f"{mask(value)} is not allowed; write a DNS name, such as web.example.org"
        )
    return text


DNS_NAME_MAX = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
DNS_PORT = 53


def _dns_server(value: Any) -> Endpoint:
    text = str(value)
    bare = text.count(":") != 1 and not text.startswith("[")  # no port; IPv6 has more colons
    return _fixed_endpoint(f"[{text}]:{DNS_PORT}" if bare else text)


@attrs.frozen
class DnsKey:
    """A TSIG key: the name and secret that a name server and its clients share."""

    name: str
    secret: str = attrs.field(repr=False)  # base64
    algorithm: str = "hmac-sha256"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[ALGORITHM:]NAME:SECRET`; the message of the ConfigError does not repeat it."""
        *algorithm, name, secret = text.split(":") if text.count(":") in (1, 2) else ("", "")
        known = not algorithm or algorithm[0] in TSIG_ALGORITHMS
        try:
            name = _dns_name(name)
            whole = bool(base64.b64decode(secret, validate=True))
        except (ConfigError, ValueError):
            whole = False
        if not known or not whole:
            raise ConfigError(
                "what was given is not allowed; write [ALGORITHM:]NAME:SECRET with the secret in "
                f"base64, as name servers have it; algorithms are {', '.join(TSIG_ALGORITHMS)}"
            )
        return cls(name, secret, *algorithm)


TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")


def _dns_key(value: Any) -> DnsKey:
    return DnsKey.parse(str(value).strip())


@attrs.frozen(kw_only=True)
class DnsConfig(FleetConfig):
    """Settings of the command that keeps a name in DNS equal to a pool."""

    pool: str = option("", _name, "NAME", "Pool of instances to publish.", group="DNS")
    zone: str = option("", _dns_name, "NAME", "Zone that the name is in.", group="DNS")
    name: str = option(
        "", _dns_name, "NAME",
        "Name to keep, within the zone. Default: the pool's name in front of the zone.",
        group="DNS",
    )  # fmt: skip
    server: Endpoint | None = option(
        None, _dns_server, "HOST[:PORT]",
        "Primary name server of the zone; it must allow updates with the key.",
        group="DNS",
    )  # fmt: skip
    dns_key: DnsKey | None = option(
        None, _dns_key, "KEY",
        "TSIG key for the server, [ALGORITHM:]NAME:SECRET with the secret in base64.",
        group="DNS", secret=True,
    )  # fmt: skip
    ttl_seconds: int = option(
        30, _count(1, 86_400), "SECONDS",
        "How long resolvers may keep the answer. Raising it saves queries and sends new users longer to instances that left.",
        group="DNS",
    )  # fmt: skip
    check_interval_seconds: float = option(
        60.0, _seconds, "SECONDS",
        "Time between looks at the server while nothing changes, to repair what others changed. Raising it saves queries and leaves such faults longer.",
        group="DNS",
    )  # fmt: skip
    grace_seconds: float = option(
        30.0, _seconds, "SECONDS",
        "How long an address that no instance claims stays after the start and after an outage of discovery. Raising it keeps crashed instances in DNS longer then.",
        group="DNS",
    )  # fmt: skip
    log_level: str = _log_level()
    log_format: str = _log_format()

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for name in ("pool", "zone", "server"):
            if not getattr(self, name):
                raise SettingError(f"{name}: missing; give --{name}", name)
        if self.dns_key is None:
            raise SettingError(
                "dns-key: missing; give it in FANOUT_DNS_KEY or in a file by --config", "dns_key"
            )
        if not f".{self.fqdn}".endswith(f".{self.zone}"):
            raise SettingError(
                f"name: {self.fqdn} is not allowed; it must be in the zone {self.zone}",
                "name",
                "zone",
            )

    @property
    def fqdn(self) -> str:
        """The whole name to keep, without a dot at its end."""
        return self.name or _dns_name(f"{self.pool}.{self.zone}")


def _sidecar() -> Any:
    return option(
        "ws://127.0.0.1:7380/", _url("ws", "wss"), "URL", "The websocket door of the sidecar."
    )


def _token() -> Any:
    return option(
        "", _text, "TEXT", "Token for the sidecar, where it has users.", group="Access", secret=True
    )


def _sidecar_ca() -> Any:
    return _file("PEM file of those who sign the certificate of the sidecar (wss://).")


def _pool() -> Any:
    return option("default", _name, "NAME", "Group of caches that are purged together.")


@attrs.frozen(kw_only=True)
class EdgeConfig:
    """Settings of the agent beside a cache."""

    id: str = option(
        "",
        _name,
        "NAME",
        "Name of this edge in reports. Default: made of host name and process id.",
    )
    sidecar: str = _sidecar()
    pool: str = _pool()
    cache: str = option(
        "", _choice("varnish", "nginx", "http"), "DRIVER",
        "How the cache is purged: varnish, nginx, or http for an API. See docs/cdn.md.",
        group="Cache",
    )  # fmt: skip
    cache_url: str = option(
        "", _url("http", "https"), "URL", "Where Varnish or nginx listens.", group="Cache"
    )
    url_request: tuple[str, str, str] | None = option(
        None, _call("url", "url_quoted"), "TEXT",
        "What purges one URL by driver http: METHOD URL or METHOD URL BODY. Default: all-request.",
        group="Cache",
    )  # fmt: skip
    key_request: tuple[str, str, str] | None = option(
        None, _call("key", "key_quoted"), "TEXT",
        "What purges one surrogate key by driver http, likewise. Default: all-request.",
        group="Cache",
    )  # fmt: skip
    all_request: tuple[str, str, str] | None = option(
        None, _call(), "TEXT", "What purges everything by driver http, likewise.", group="Cache"
    )
    request_headers: tuple[tuple[str, str], ...] = option(
        (), _headers, "NAME: VALUE",
        "Headers of every request to the cache, one a line; API tokens belong here.",
        group="Cache", secret=True,
    )  # fmt: skip
    settle_seconds: float = option(
        2.0, _pause, "SECONDS",
        "Each purge is made again after this time, for answers that were on their way from the "
        "origin. Raising it delays the report; 0 makes none.",
        group="Cache",
    )  # fmt: skip
    everything_interval_seconds: float = option(
        10.0, _seconds, "SECONDS",
        "Shortest time between two purges of everything because of gaps. Raising it spares the "
        "origin and lets stale answers live longer.",
        group="Cache",
    )  # fmt: skip
    cache_timeout_seconds: float = option(
        5.0, _seconds, "SECONDS",
        "How long the cache may take to answer. Raising it delays the report of a cache that hangs.",
        group="Cache",
    )  # fmt: skip
    attempts_max: int = option(
        5, _count(1, 100), "COUNT",
        "How often a purge is tried before it is reported as failed. Raising it delays that report.",
        group="Cache",
    )  # fmt: skip
    requests_per_second_max: int = option(
        1000, _count(1, 1_000_000), "COUNT",
        "Requests to the cache in a second; more wait. Raising it may break the rules of an API.",
        group="Cache",
    )  # fmt: skip
    token: str = _token()
    tls_ca: str = _sidecar_ca()
    log_level: str = _log_level()
    log_format: str = _log_format()

    def __attrs_post_init__(self) -> None:
        _require_id(self.id)
        if not self.cache:
            raise SettingError("cache: missing; give --cache varnish, nginx or http", "cache")
        needed = "all_request" if self.cache == "http" else "cache_url"
        if not getattr(self, needed):
            raise SettingError(
                f"{flag(needed)}: missing; --cache {self.cache} needs it", needed, "cache"
            )
        others = (
            ["cache_url"] if self.cache == "http" else ["url_request", "key_request", "all_request"]
        )
        if extra := [name for name in others if getattr(self, name)]:
            raise SettingError(
                f"{flag(extra[0])}: not allowed; --cache {self.cache} has no use for it",
                extra[0],
                "cache",
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        return _build(cls, values)


@attrs.frozen(kw_only=True)
class PurgeConfig:
    """Settings of the command that purges."""

    id: str = option(
        "",
        _name,
        "NAME",
        "Name of who purges, for the edges' logs. Default: host name and process id.",
    )
    sidecar: str = _sidecar()
    pool: str = _pool()
    timeout_seconds: float = option(
        5.0, _seconds, "SECONDS",
        "How long the sidecar may take to answer. Raising it delays the error when there is none.",
    )  # fmt: skip
    token: str = _token()
    tls_ca: str = _sidecar_ca()

    def __attrs_post_init__(self) -> None:
        _require_id(self.id)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Self:
        """Build it from option names, underscored, and texts, numbers or lists.

        Raises:
            SettingError: a value is not allowed, or there is no such setting.

        """
        return _build(cls, values)


_PARTS: dict[str, type] = {"timings": Timings, "limits": Limits, "gateway": Gateway}
_T = TypeVar("_T")


def groups(config: type) -> dict[str, dict[str, Any]]:
    """Return, under each heading of the help, name and attrs field of its options, in order."""
    found: dict[str, dict[str, Any]] = {}
    for field in attrs.fields(config):
        if field.name in _PARTS:
            part = {each.name: each for each in attrs.fields(_PARTS[field.name])}
            found[field.name.capitalize()] = part
        else:
            found.setdefault(field.metadata["group"], {})[field.name] = field
    return found


def options(config: type) -> dict[str, Any]:
    """Return name and attrs field of every option, parts included, in order."""
    return {name: field for group in groups(config).values() for name, field in group.items()}


def secrets_of(config: Any) -> frozenset[str]:
    """Return every secret in a configuration: what it does not show of itself, parts included."""
    if isinstance(config, tuple):
        return frozenset().union(*map(secrets_of, config))
    if not attrs.has(type(config)):
        return frozenset()
    found = {field.name: getattr(config, field.name) for field in attrs.fields(type(config))}
    hidden = {field.name for field in attrs.fields(type(config)) if not field.repr}
    own = {text for name, text in found.items() if name in hidden and isinstance(text, str)}
    return frozenset(own - {""}).union(*map(secrets_of, found.values()))


def flag(name: str) -> str:
    """Return the command line's word for a setting, without its dashes in front."""
    return name.replace("_", "-")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def _require_id(name: str) -> None:
    if not name:
        raise SettingError("id: missing; give this member of the fleet a name", "id")


def _build(config: type[_T], values: Mapping[str, object]) -> _T:
    known = options(config)
    converted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
            raise SettingError(f"{name}: no such setting{hint}", name)
        try:
            converted[name] = known[name].metadata["convert"](value)
        except ConfigError as error:
            raise SettingError(f"{flag(name)}: {error}", name) from None
    parts = {
        part: kind(
            **{name: converted.pop(name) for name in attrs.fields_dict(kind) if name in converted}
        )
        for part, kind in _PARTS.items()
        if hasattr(attrs.fields(config), part)  # type: ignore[arg-type]
    }
    return config(**converted, **parts)
