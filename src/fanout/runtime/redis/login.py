"""The login of agents and sidecars on nodes."""

from fanout.config import NodeConfig, RedisAddress, SidecarConfig
from fanout.core.users import password
from fanout.values.records import FenceMode, NodeRecord

NO_PASSWORD = "nopass"  # noqa: S105 - Redis accepts any password for such a user, but not none


def node_address(config: NodeConfig | SidecarConfig, record: NodeRecord, user: str) -> RedisAddress:
    """Return the address of a node with the login of `user`, which its agent created there.

    In cooperative mode agents create no users: the login is the one in the configuration.
    """
    if record.fence is FenceMode.COOPERATIVE:
        return RedisAddress(
            record.endpoint, config.node_username, config.node_password, tls=record.tls
        )
    login = password(config.secret, record.cluster, record.node, user)
    return RedisAddress(record.endpoint, user, login or NO_PASSWORD, tls=record.tls)
