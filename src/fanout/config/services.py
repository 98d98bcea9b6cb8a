"""The settings of the two services."""

import attrs

from fanout.config.addresses import DiscoveryAddress, RedisAddress
from fanout.config.gateway import Gateway
from fanout.config.options import Configuration, option, require_id
from fanout.config.parts import Limits, Timings
from fanout.config.readers import (
    is_loopback,
    is_wide,
    read_choice,
    read_count,
    read_endpoint,
    read_fixed_endpoint,
    read_hosts,
    read_name,
    read_origins,
    read_redis,
    read_tcp_endpoint,
    read_text,
)
from fanout.config.shared import (
    TlsFiles,
    cluster_option,
    discovery_option,
    log_format_option,
    log_level_option,
    node_network_option,
    node_password_option,
    node_username_option,
    require_tls_cert,
    secret_option,
    tls_ca_option,
    tls_cert_option,
    tls_client_ca_option,
    tls_client_cert_option,
    tls_client_key_option,
    tls_key_option,
)
from fanout.errors import SettingError
from fanout.values.names import Endpoint, IPNetwork

LOCAL_NODES_MAX = 16


@attrs.frozen(kw_only=True)
class SidecarConfig(Configuration):
    """Settings of fanout-sidecar."""

    id: str = option(
        "", read_name, "NAME", "Name of this sidecar. Default: made of host name and process id."
    )
    cluster: str = cluster_option()
    discovery: tuple[DiscoveryAddress, ...] = discovery_option()
    local: int = option(
        0,
        read_count(0, LOCAL_NODES_MAX),
        "NODES",
        "Start a whole fleet of this many nodes on this machine, with discovery. Raising it costs a process a node.",
    )
    resp: Endpoint = option(
        Endpoint("127.0.0.1", 6380),
        read_endpoint,
        "ADDRESS",
        "Where Redis clients connect: HOST:PORT or unix:PATH; port 0 takes a free one.",
    )
    ws: Endpoint = option(
        Endpoint("127.0.0.1", 7380),
        read_tcp_endpoint,
        "HOST:PORT",
        "Where websocket clients connect.",
    )
    admin: Endpoint = option(
        Endpoint("127.0.0.1", 9380),
        read_tcp_endpoint,
        "HOST:PORT",
        "Where the live page, /healthz, /readyz and /metrics are served.",
    )
    users: str = option(
        "",
        read_text,
        "FILE",
        "TOML file of users and their rights: clients of resp and ws must then log in. "
        "Read again on SIGHUP. Default: anybody may do anything.",
        group="Access",
    )
    origin: tuple[str, ...] = option(
        (),
        read_origins,
        "ORIGIN",
        "Web pages that may use the websocket and admin doors, exactly as browsers write it: "
        "https://app.example. Repeat it for each. Default: none.",
        group="Access",
        repeatable=True,
    )
    host: tuple[str, ...] = option(
        (),
        read_hosts,
        "HOST",
        "Further names by which clients reach the websocket and admin doors. Repeat it for each. "
        "Default: the address itself, and localhost.",
        group="Access",
        repeatable=True,
    )
    serve_anybody: str = option(
        "no",
        read_choice("no", "admin", "yes"),
        "NO|ADMIN|YES",
        "Lets doors be on addresses that others reach, though they ask nobody for a password: "
        "admin only that of metrics and the live page, yes also those by which whoever connects "
        "can read and publish everything.",
        group="Access",
    )
    tls_cert: str = tls_cert_option()
    tls_key: str = tls_key_option()
    tls_client_ca: str = tls_client_ca_option()
    tls_ca: str = tls_ca_option()
    tls_client_cert: str = tls_client_cert_option()
    tls_client_key: str = tls_client_key_option()
    secret: str = secret_option()
    node_network: tuple[IPNetwork, ...] = node_network_option()
    node_username: str = node_username_option()
    node_password: str = node_password_option()
    timings: Timings = attrs.field(factory=Timings)
    limits: Limits = attrs.field(factory=Limits)
    gateway: Gateway = attrs.field(factory=Gateway)
    log_level: str = log_level_option()
    log_format: str = log_format_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
        if self.local and self.discovery:
            raise SettingError(
                f"local: {self.local} is not allowed beside --discovery; give only one of them",
                "local",
                "discovery",
            )
        require_tls_cert(TlsFiles.of(self))
        for name in ("resp", "ws", "admin"):
            endpoint = getattr(self, name)
            may = self.serve_anybody in ({"admin", "yes"} if name == "admin" else {"yes"})
            asks = bool(self.users) and name != "admin"
            if is_wide(endpoint) and not asks and not may:
                way = "--serve-anybody admin"
                if name != "admin":
                    way = "--users FILE, which has clients log in, or --serve-anybody yes"
                raise SettingError(
                    f"{name}: {endpoint} is not allowed: others reach it and it asks nobody for a "
                    f"password; use 127.0.0.1, or give {way}",
                    name,
                )
        if not self.local and not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once, or --local NODES",
                "discovery",
            )


@attrs.frozen(kw_only=True)
class NodeConfig(Configuration):
    """Settings of fanout-node."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Name of this node, unique in its fleet; give one to keep it over restarts. "
        "Default: made of host name and process id.",
    )
    cluster: str = cluster_option()
    discovery: tuple[DiscoveryAddress, ...] = discovery_option()
    redis: RedisAddress | None = option(None, read_redis, "URL", "Attach to this running Redis.")
    spawn: Endpoint | None = option(
        None,
        read_tcp_endpoint,
        "HOST:PORT",
        "Start and supervise a Redis there; port 0 takes a free one.",
    )
    advertise: Endpoint | None = option(
        None,
        read_fixed_endpoint,
        "HOST:PORT",
        "Address that sidecars reach the node at. Default: that of --redis or --spawn.",
    )
    admin: Endpoint | None = option(
        None,
        read_tcp_endpoint,
        "HOST:PORT",
        "Where /healthz, /readyz and /metrics are served. Default: nowhere.",
    )
    host: tuple[str, ...] = option(
        (),
        read_hosts,
        "HOST",
        "Further names by which the admin door is reached. Repeat it for each. Default: the "
        "address itself, and localhost.",
        group="Access",
        repeatable=True,
    )
    serve_anybody: str = option(
        "no",
        read_choice("no", "yes"),
        "YES|NO",
        "yes lets the admin door be on an address that others reach, though it asks nobody for a "
        "password: whoever connects can read health and metrics.",
        group="Access",
    )
    tls_cert: str = tls_cert_option()
    tls_key: str = tls_key_option()
    tls_client_ca: str = tls_client_ca_option()
    tls_ca: str = tls_ca_option()
    tls_client_cert: str = tls_client_cert_option()
    tls_client_key: str = tls_client_key_option()
    secret: str = secret_option()
    node_network: tuple[IPNetwork, ...] = node_network_option()
    node_username: str = node_username_option()
    node_password: str = node_password_option()
    timings: Timings = attrs.field(factory=Timings)
    log_level: str = log_level_option()
    log_format: str = log_format_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
        if not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once", "discovery"
            )
        require_tls_cert(TlsFiles.of(self))
        if self.admin is not None and is_wide(self.admin) and self.serve_anybody == "no":
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
