"""Options of the gateway: of an instance, and of the command that updates its DNS name."""

import base64
import re
from ipaddress import ip_address
from typing import Any, Self

import attrs

from fanout.config.addresses import invalid
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
    """Parse the address of an instance, as it is used in redirects. Raises ConfigError."""
    text = str(value)
    found = _ADDRESS.fullmatch(text)
    port = found and found["port"]
    if (
        len(text) > GATEWAY_ADDRESS_MAX
        or not found
        or not (found["scheme"] or (port and not found["path"]))
        or (port and not 0 < int(port[1:]) <= PORT_MAX)
    ):
        raise invalid(value, "SCHEME://HOST[:PORT][/PATH] or HOST:PORT")
    return text


def gateway_ips(value: Any) -> tuple[str, ...]:
    """Parse IP addresses and return each in its canonical form. Raises ConfigError."""
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or len(words) > GATEWAY_IPS_MAX:
        raise invalid(value, f"at most {GATEWAY_IPS_MAX} addresses")
    try:
        found = [ip_address(str(word)) for word in words]
    except ValueError:
        found = []
    # A scope such as %eth0 is valid on this machine only.
    if len(found) != len(words) or any(getattr(each, "scope_id", None) for each in found):
        raise invalid(value, "an IPv4 or IPv6 address, without port")
    return tuple(map(str, found))


gateway_weight = read_count(1, 1000)
"""Parses the weight of an instance. Raises ConfigError."""


@attrs.frozen(kw_only=True)
class Gateway:
    """Options of a sidecar that registers an instance in a pool of the gateway."""

    gateway_pool: str = option(
        "", read_name, "NAME",
        "Pool that the service beside this sidecar belongs to while the sidecar is ready. Default: none.",
    )  # fmt: skip
    gateway_address: str = option(
        "", gateway_address, "ADDRESS",
        "Address at which users reach the service: https://HOST[:PORT][/PATH], another scheme, or HOST:PORT.",
    )  # fmt: skip
    gateway_ip: tuple[str, ...] = option(
        (), gateway_ips, "IP",
        "IP address of the service in DNS; repeat it for IPv4 and IPv6. Default: the host of --gateway-address, if that is an IP address.",
        repeatable=True,
    )  # fmt: skip
    gateway_weight: int = option(
        1, gateway_weight, "COUNT",
        "Share of new users, relative to the weights of the other instances. Raising it sends more users here.",
    )  # fmt: skip
    gateway_check: Endpoint | None = option(
        None, read_fixed_endpoint, "HOST:PORT",
        "Health check: users are sent to the service only while this address accepts a connection at every heartbeat. Default: no check.",
    )  # fmt: skip
    gateway_drain_seconds: float = option(
        5.0, read_seconds, "SECONDS",
        "How long a stopping sidecar keeps serving while new users are sent elsewhere. Raising it above the DNS TTL loses no new users and delays every stop.",
    )  # fmt: skip
    gateway_serve: str = option(
        "no", read_choice("no", "yes"), "YES|NO",
        "Serve /gateway at the admin door even without --gateway-pool.",
    )  # fmt: skip
    gateway_secret: str = option(
        "", read_text, "TEXT",
        "Secret that signs the tokens, the same for all sidecars. Default: the fleet's secret; without either there are no tokens.",
        secret=True,
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if bool(self.gateway_pool) is not bool(self.gateway_address):
            missing, given = ("address", "pool") if self.gateway_pool else ("pool", "address")
            raise SettingError(
                f"gateway-{missing}: missing; --gateway-{given} requires it",
                f"gateway_{missing}",
                f"gateway_{given}",
            )

    @property
    def ips(self) -> tuple[str, ...]:
        """The IP addresses of the service in DNS: those given, or the host of its address."""
        found = _ADDRESS.fullmatch(self.gateway_address)
        try:
            return self.gateway_ip or gateway_ips(found["host"].strip("[]") if found else "")
        except ConfigError:  # the host is a DNS name
            return ()


DNS_NAME_MAX = 253


_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


DNS_PORT = 53


def read_dns_name(value: Any) -> str:
    """Parse a DNS name."""
    text = str(value).rstrip(".").lower()
    labels = text.split(".")
    if len(text) > DNS_NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise invalid(value, "a DNS name, such as web.example.org")
    return text


def read_dns_server(value: Any) -> Endpoint:
    """Parse the address of a name server; the port defaults to 53."""
    text = str(value)
    bare = text.count(":") != 1 and not text.startswith("[")  # no port; IPv6 has more colons
    return read_fixed_endpoint(f"[{text}]:{DNS_PORT}" if bare else text)


TSIG_ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")


@attrs.frozen
class DnsKey:
    """A TSIG key: the name and secret that a name server shares with its clients."""

    name: str
    secret: str = attrs.field(repr=False)  # base64
    algorithm: str = "hmac-sha256"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `[ALGORITHM:]NAME:SECRET`. Raises ConfigError, whose message does not repeat it."""
        *algorithm, name, secret = text.split(":") if text.count(":") in (1, 2) else ("", "")
        known = not algorithm or algorithm[0] in TSIG_ALGORITHMS
        try:
            name = read_dns_name(name)
            whole = bool(base64.b64decode(secret, validate=True))
        except (ConfigError, ValueError):
            whole = False
        if not known or not whole:
            raise ConfigError(
                "invalid key: expected [ALGORITHM:]NAME:SECRET with the secret in base64, as in the "
                f"configuration of the name server; algorithms: {', '.join(TSIG_ALGORITHMS)}"
            )
        return cls(name, secret, *algorithm)


def read_dns_key(value: Any) -> DnsKey:
    """Parse a TSIG key."""
    return DnsKey.parse(str(value).strip())


@attrs.frozen(kw_only=True)
class DnsConfig(FleetConfig):
    """Options of the command that publishes a pool under a DNS name."""

    pool: str = option("", read_name, "NAME", "Pool of instances to publish in DNS.", group="DNS")
    zone: str = option("", read_dns_name, "NAME", "DNS zone of the name.", group="DNS")
    name: str = option(
        "", read_dns_name, "NAME",
        "DNS name to update, within the zone. Default: POOL.ZONE.",
        group="DNS",
    )  # fmt: skip
    server: Endpoint | None = option(
        None, read_dns_server, "HOST[:PORT]",
        "Primary name server of the zone; it must allow updates that are signed with the TSIG key.",
        group="DNS",
    )  # fmt: skip
    dns_key: DnsKey | None = option(
        None, read_dns_key, "KEY",
        "TSIG key of the name server, [ALGORITHM:]NAME:SECRET with the secret in base64.",
        group="DNS", secret=True,
    )  # fmt: skip
    ttl_seconds: int = option(
        30, read_count(1, 86_400), "SECONDS",
        "TTL of the DNS records. Raising it saves queries and sends new users to stopped instances for longer.",
        group="DNS",
    )  # fmt: skip
    check_interval_seconds: float = option(
        60.0, read_seconds, "SECONDS",
        "Time between updates while the pool does not change; they undo changes made by others. Raising it saves updates and keeps such changes longer.",
        group="DNS",
    )  # fmt: skip
    grace_seconds: float = option(
        30.0, read_seconds, "SECONDS",
        "After the start, and after an outage of discovery, how long addresses without an instance stay in DNS. Raising it keeps crashed instances in DNS longer.",
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
                f"name: {self.fqdn} must be in the zone {self.zone}",
                "name",
                "zone",
            )

    @property
    def fqdn(self) -> str:
        """The fully qualified name to update, without a trailing dot."""
        return self.name or read_dns_name(f"{self.pool}.{self.zone}")
