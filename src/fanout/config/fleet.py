"""Options of the commands that inspect a fleet."""

import attrs

from fanout.config.addresses import DiscoveryAddress
from fanout.config.options import Configuration, option
from fanout.config.readers import read_seconds
from fanout.config.shared import (
    cluster_option,
    discovery_option,
    require_discovery,
    tls_ca_option,
    tls_client_cert_option,
    tls_client_key_option,
)


@attrs.frozen(kw_only=True)
class FleetConfig(Configuration):
    """Options of the commands that inspect a fleet without being a member."""

    cluster: str = cluster_option()
    discovery: tuple[DiscoveryAddress, ...] = discovery_option()
    timeout_seconds: float = option(
        3.0, read_seconds, "SECONDS",
        "How long to wait for a discovery instance. Raising it delays the report of an outage.",
    )  # fmt: skip
    tls_ca: str = tls_ca_option()
    tls_client_cert: str = tls_client_cert_option()
    tls_client_key: str = tls_client_key_option()

    def __attrs_post_init__(self) -> None:
        require_discovery(self.discovery)
