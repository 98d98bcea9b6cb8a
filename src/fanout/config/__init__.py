"""The options of all commands: one table for flags, environment variables, files and help.

The metadata of a field holds its description, its unit, and what raising it costs. Nothing here
reads the environment: the commands collect the values of all sources and pass them as a mapping.
"""

from fanout.config.addresses import DiscoveryAddress, RedisAddress, mask, split_urls
from fanout.config.fleet import FleetConfig
from fanout.config.gateway import (
    DnsConfig,
    DnsKey,
    Gateway,
    gateway_address,
    gateway_ips,
    gateway_weight,
)
from fanout.config.options import (
    Configuration,
    flag,
    groups,
    option,
    options,
    renamed,
    secrets_of,
)
from fanout.config.parts import Limits, Timings
from fanout.config.purge import EdgeConfig, PurgeConfig
from fanout.config.readers import is_loopback
from fanout.config.services import NodeConfig, SidecarConfig
from fanout.config.shared import TlsFiles
from fanout.config.terminal import BridgeConfig, TopConfig

__all__ = [
    "BridgeConfig",
    "Configuration",
    "DiscoveryAddress",
    "DnsConfig",
    "DnsKey",
    "EdgeConfig",
    "FleetConfig",
    "Gateway",
    "Limits",
    "NodeConfig",
    "PurgeConfig",
    "RedisAddress",
    "SidecarConfig",
    "Timings",
    "TlsFiles",
    "TopConfig",
    "flag",
    "gateway_address",
    "gateway_ips",
    "gateway_weight",
    "groups",
    "is_loopback",
    "mask",
    "option",
    "options",
    "renamed",
    "secrets_of",
    "split_urls",
]
