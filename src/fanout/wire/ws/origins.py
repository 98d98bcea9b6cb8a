"""Checks of Origin and Host: which web pages may use an HTTP door.

A page in a browser on this machine can connect to a loopback address, and any site can make its own
name resolve to it (DNS rebinding). So a request with an `Origin` is refused unless exactly that origin
is listed, and the `Host` must be a name of this door, with any port: a forwarded port is not another
site. Programs other than browsers send no `Origin` and pass.
Source: OWASP ASVS 4.0.3, 13.5.1 and 14.5.3; RFC 6454.
"""

from collections.abc import Iterable

import attrs

from fanout.values.names import Endpoint

_DEFAULT_PORTS = {"http": "80", "https": "443"}
"""The ports that an origin leaves out."""


@attrs.frozen
class OriginPolicy:
    """The origins and hosts that a door accepts."""

    origins: frozenset[str]
    hosts: frozenset[str]

    @classmethod
    def of(cls, endpoint: Endpoint, origins: Iterable[str], hosts: Iterable[str]) -> "OriginPolicy":
        """Return the policy of a door bound at `endpoint`: its own names, and what is configured."""
        own = (endpoint.host, "localhost", "127.0.0.1", "::1")
        return cls(
            frozenset(each.lower() for each in origins),
            frozenset(each.lower() for each in (*own, *hosts)),
        )

    @classmethod
    def with_page(
        cls, endpoint: Endpoint, origins: Iterable[str], hosts: Iterable[str], page: str
    ) -> "OriginPolicy":
        """Return the policy of a door that also accepts the page at the URL `page`.

        The page is accepted under every host name of its door, with exactly its scheme and port: no
        other page has such an origin.
        """
        scheme, _, rest = page.rstrip("/").partition("://")
        host, _, port = rest.rpartition(":")
        own = cls.of(Endpoint(_name(host), int(port)), (), hosts).hosts
        suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
        pages = (f"{scheme}://{f'[{each}]' if ':' in each else each}{suffix}" for each in own)
        return cls.of(endpoint, (*origins, *pages), hosts)

    def refusal(self, host: str | None, origins: Iterable[str]) -> str:
        """Return why a request with these headers is refused; empty if it is accepted."""
        if _name(host or "").lower() not in self.hosts:
            return "this Host is not served here; see --host"
        if any(origin.lower() not in self.origins for origin in origins):
            return "pages of this Origin are not allowed; see --origin"
        return ""


def _name(host: str) -> str:
    """Return a `Host` without its port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
