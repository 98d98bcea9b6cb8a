"""The settings of the gateway: of an instance, and of the updater of its name in DNS."""

import base64
import re
from ipaddress import ip_address
from typing import Any, Self

import attrs

from fanout.config.addresses import mask
from fanout.config.fleet import FleetConfig
from fanout.config.options import option
from fanout.config.readers import (
    read_choice,
    read_count,
    read_fixed_endpoint,
    read_name,
    read_seconds,
    read_text,
)
from fanout.config.shared import log_format_option, log_level_option
from fanout.errors import ConfigError, SettingError
from fanout.values.names import PORT_MAX, Endpoint

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


gateway_weight = read_count(1, 1000)
"""Reads the weight of an instance. Raises ConfigError."""


@attrs.frozen(kw_only=True)
class Gateway:
    """What a sidecar does for the pools of instances that users are handed out to."""

    gateway_pool: str = option(
        "", read_name, "NAME",
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
        None, read_fixed_endpoint, "HOST:PORT",
        "Where the service must take a connection at every heartbeat to be handed out. Default: it is not checked.",
    )  # fmt: skip
    gateway_drain_seconds: float = option(
        5.0, read_seconds, "SECONDS",
        "How long a sidecar that was told to stop goes on serving while new users are sent elsewhere. Raising it past the TTL in DNS loses nobody, and delays every stop.",
    )  # fmt: skip
    gateway_serve: str = option(
        "no", read_choice("no", "yes"), "YES|NO",
        "yes answers /gateway at the admin door also without a pool of its own.",
    )  # fmt: skip
    gateway_secret: str = option(
        "", read_text, "TEXT",
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

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses of the service in DNS: those given, or the host of its address."""
        found = _ADDRESS.fullmatch(self.gateway_address)
        try:
            return self.gateway_ip or gateway_ips(found["host"].strip("[]") if found else "")
        except ConfigError:  # the host is a name
            return ()


DNS_NAME_MAX = 253


_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


DNS_PORT = 53


def read_dns_name(value: Any) -> str:
    """Read a name in DNS."""
    text = str(value).rstrip(".").lower()
    labels = text.split(".")
    if len(text) > DNS_NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ConfigError(
            f"{mask(value)} is not allowed; write a DNS name, such as web.example.org"
        )
    return text


def read_dns_server(value: Any) -> Endpoint:
    """Read the address of a name server; the port may be left out."""
    text = str(value)
    bare = text.count(":") != 1 and not text.startswith("[")  # no port; IPv6 has more colons
    return read_fixed_endpoint(f"[{text}]:{DNS_PORT}" if bare else text)


TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")


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
            name = read_dns_name(name)
            whole = bool(base64.b64decode(secret, validate=True))
        except (ConfigError, ValueError):
            whole = False
        if not known or not whole:
            raise ConfigError(
                "what was given is not allowed; write [ALGORITHM:]NAME:SECRET with the secret in "
                f"base64, as name servers have it; algorithms are {', '.join(TSIG_ALGORITHMS)}"
            )
        return cls(name, secret, *algorithm)


def read_dns_key(value: Any) -> DnsKey:
    """Read a TSIG key."""
    return DnsKey.parse(str(value).strip())


@attrs.frozen(kw_only=True)
class DnsConfig(FleetConfig):
    """Settings of the command that keeps a name in DNS equal to a pool."""

    pool: str = option("", read_name, "NAME", "Pool of instances to publish.", group="DNS")
    zone: str = option("", read_dns_name, "NAME", "Zone that the name is in.", group="DNS")
    name: str = option(
        "", read_dns_name, "NAME",
        "Name to keep, within the zone. Default: the pool's name in front of the zone.",
        group="DNS",
    )  # fmt: skip
    server: Endpoint | None = option(
        None, read_dns_server, "HOST[:PORT]",
        "Primary name server of the zone; it must allow updates with the key.",
        group="DNS",
    )  # fmt: skip
    dns_key: DnsKey | None = option(
        None, read_dns_key, "KEY",
        "TSIG key for the server, [ALGORITHM:]NAME:SECRET with the secret in base64.",
        group="DNS", secret=True,
    )  # fmt: skip
    ttl_seconds: int = option(
        30, read_count(1, 86_400), "SECONDS",
        "How long resolvers may keep the answer. Raising it saves queries and sends new users longer to instances that left.",
        group="DNS",
    )  # fmt: skip
    check_interval_seconds: float = option(
        60.0, read_seconds, "SECONDS",
        "Time between updates while nothing changes, to repair what others changed. Raising it saves updates and leaves such faults longer.",
        group="DNS",
    )  # fmt: skip
    grace_seconds: float = option(
        30.0, read_seconds, "SECONDS",
        "How long an address that no instance claims stays after the start and after an outage of discovery. Raising it keeps crashed instances in DNS longer then.",
        group="DNS",
    )  # fmt: skip
    log_level: str = log_level_option()
    log_format: str = log_format_option()

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
        return self.name or read_dns_name(f"{self.pool}.{self.zone}")
