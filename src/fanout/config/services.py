"""Options of the two services, fanout-node and fanout-sidecar."""

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
    read_networks,
    read_origins,
    read_redis,
    read_tcp_endpoint,
    read_text,
)
from fanout.config.shared import (
    cluster_option,
    discovery_option,
    file_option,
    log_format_option,
    log_level_option,
    require_discovery,
    tls_ca_option,
    tls_client_cert_option,
    tls_client_key_option,
)
from fanout.errors import SettingError
from fanout.values.names import Endpoint, IPNetwork

LOCAL_NODES_MAX = 16


@attrs.frozen(kw_only=True)
class MemberConfig(Configuration):
    """Options of both services: those of a member of a fleet."""

    id: str = option(
        "",
        read_name,
        "NAME",
        "Id of this process, unique in its fleet; set one to keep it across restarts. "
        "Default: host name and a random suffix.",
    )
    cluster: str = cluster_option()
    discovery: tuple[DiscoveryAddress, ...] = discovery_option()
    tls_cert: str = file_option(
        "PEM file of the certificate of the doors, which then accept TLS only. Reloaded on SIGHUP."
    )
    tls_key: str = file_option(
        "PEM file of the private key, if the file of --tls-cert does not contain it."
    )
    tls_client_ca: str = file_option(
        "PEM file of the CA bundle that verifies clients: the doors then require a certificate."
    )
    tls_ca: str = tls_ca_option()
    tls_client_cert: str = tls_client_cert_option()
    tls_client_key: str = tls_client_key_option()
    secret: str = option(
        "",
        read_text,
        "TEXT",
        "Secret of the fleet, the same for all nodes and sidecars: the passwords of the nodes' "
        "users are derived from it.",
        group="Nodes",
        secret=True,
    )
    node_network: tuple[IPNetwork, ...] = option(
        (),
        read_networks,
        "CIDR",
        "Network of the nodes, such as 10.0.0.0/8; nodes that discovery lists outside it are "
        "refused. Repeat it for each. Default: any.",
        group="Nodes",
        repeatable=True,
    )
    node_username: str = option(
        "",
        read_text,
        "NAME",
        "Redis user for nodes in cooperative mode, where the agent may not create users.",
        group="Nodes",
    )
    node_password: str = option(
        "", read_text, "TEXT", "Password for nodes in cooperative mode.", group="Nodes", secret=True
    )
    timings: Timings = attrs.field(factory=Timings)
    log_level: str = log_level_option()
    log_format: str = log_format_option()

    def __attrs_post_init__(self) -> None:
        require_id(self.id)
        if not self.tls_cert and (self.tls_key or self.tls_client_ca):
            raise SettingError(
                "tls-cert: missing; --tls-key and --tls-client-ca require it",
                "tls_cert",
                "tls_key",
                "tls_client_ca",
            )


@attrs.frozen(kw_only=True)
class SidecarConfig(MemberConfig):
    """Options of fanout-sidecar."""

    local: int = option(
        0,
        read_count(0, LOCAL_NODES_MAX),
        "NODES",
        "Start a fleet of this many nodes on this machine, discovery included. Raising it costs one process per node.",
    )
    resp: Endpoint = option(
        Endpoint("127.0.0.1", 6380),
        read_endpoint,
        "ADDRESS",
        "Address for Redis clients: HOST:PORT or unix:PATH; port 0 picks a free port.",
    )
    ws: Endpoint = option(
        Endpoint("127.0.0.1", 7380),
        read_tcp_endpoint,
        "HOST:PORT",
        "Address for websocket clients; port 0 picks a free port.",
    )
    admin: Endpoint = option(
        Endpoint("127.0.0.1", 9380),
        read_tcp_endpoint,
        "HOST:PORT",
        "Address of the admin door: live page, /healthz, /readyz and /metrics.",
    )
    users: str = option(
        "",
        read_text,
        "FILE",
        "TOML file of users and their rights: clients of resp and ws must then log in. "
        "Reloaded on SIGHUP. Default: no login, and all rights.",
        group="Access",
    )
    origin: tuple[str, ...] = option(
        (),
        read_origins,
        "ORIGIN",
        "Origin of the web pages that may use the websocket and admin doors, exactly as browsers "
        "send it: https://app.example. Repeat it for each. Default: none.",
        group="Access",
        repeatable=True,
    )
    host: tuple[str, ...] = option(
        (),
        read_hosts,
        "HOST",
        "Additional host name by which clients reach the websocket and admin doors. Repeat it "
        "for each. Default: only the address itself and localhost.",
        group="Access",
        repeatable=True,
    )
    allow_unauthenticated: str = option(
        "no",
        read_choice("no", "admin", "yes"),
        "NO|ADMIN|YES",
        "Allow doors without authentication on addresses that other machines reach. admin: the "
        "admin door only (metrics and live page); yes: all doors, so that every client can read and "
        "publish everything.",
        group="Access",
        formerly="serve_anybody",
    )
    limits: Limits = attrs.field(factory=Limits)
    gateway: Gateway = attrs.field(factory=Gateway)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.local and self.discovery:
            raise SettingError(
                f"local: {self.local} conflicts with --discovery; give only one of them",
                "local",
                "discovery",
            )
        for name in ("resp", "ws", "admin"):
            endpoint = getattr(self, name)
            allowed = self.allow_unauthenticated in ("yes", name)
            login = bool(self.users) and name != "admin"
            if is_wide(endpoint) and not login and not allowed:
                way = "--allow-unauthenticated admin"
                if name != "admin":
                    way = "--users FILE for a login, or --allow-unauthenticated yes"
                raise SettingError(
                    f"{name}: {endpoint} is reachable from other machines without authentication; "
                    f"use 127.0.0.1, or give {way}",
                    name,
                )
        if not self.local and not self.discovery:
            raise SettingError(
                "discovery: missing; give --discovery URL at least once, or --local NODES",
                "discovery",
            )


@attrs.frozen(kw_only=True)
class NodeConfig(MemberConfig):
    """Options of fanout-node."""

    redis: RedisAddress | None = option(None, read_redis, "URL", "Attach to this running Redis.")
    spawn: Endpoint | None = option(
        None,
        read_tcp_endpoint,
        "HOST:PORT",
        "Start and supervise a Redis at this address; port 0 picks a free port.",
    )
    advertise: Endpoint | None = option(
        None,
        read_fixed_endpoint,
        "HOST:PORT",
        "Address at which sidecars reach the node. Default: that of --redis or --spawn.",
    )
    admin: Endpoint | None = option(
        None,
        read_tcp_endpoint,
        "HOST:PORT",
        "Address of the admin door: /healthz, /readyz and /metrics. Default: none.",
    )
    host: tuple[str, ...] = option(
        (),
        read_hosts,
        "HOST",
        "Additional host name by which clients reach the admin door. Repeat it for each. Default: "
        "only the address itself and localhost.",
        group="Access",
        repeatable=True,
    )
    allow_unauthenticated: str = option(
        "no",
        read_choice("no", "yes"),
        "YES|NO",
        "Allow the admin door, which has no authentication, on an address that other machines "
        "reach, so that every client can read health and metrics.",
        group="Access",
        formerly="serve_anybody",
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        require_discovery(self.discovery)
        if self.admin is not None and is_wide(self.admin) and self.allow_unauthenticated == "no":
            raise SettingError(
                f"admin: {self.admin} is reachable from other machines without authentication; "
                "use 127.0.0.1, or give --allow-unauthenticated yes",
                "admin",
            )
        if self.redis is None and self.spawn is None:
            raise SettingError("redis: missing; give --redis URL or --spawn HOST:PORT", "redis")
        if self.redis is not None and self.spawn is not None:
            raise SettingError(
                f"redis: {self.redis} conflicts with --spawn {self.spawn}; give only one of them",
                "redis",
                "spawn",
            )
        if self.spawn is not None and not self.secret and not is_loopback(self.spawn.host):
            raise SettingError(
                f"spawn: {self.spawn} requires a secret, since other machines can reach it and "
                "publish; give the fleet's secret in FANOUT_SECRET or in a file by --config, or "
                "spawn on 127.0.0.1",
                "spawn",
            )
