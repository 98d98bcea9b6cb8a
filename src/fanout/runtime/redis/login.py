"""How agents and sidecars log in to nodes."""

from fanout.config import NodeConfig, RedisAddress, SidecarConfig
from fanout.core.users import password
from fanout.values.records import FenceMode, NodeRecord

NO_PASSWORD = "nopass"  # noqa: S105 - Redis wants some word even from a user without a password


def node_address(config: NodeConfig | SidecarConfig, record: NodeRecord, user: str) -> RedisAddress:
    """Return address and login of a node for one of the users that its agent made there.

    In cooperative mode there are none, and everybody logs in as the operator has configured.
    """
    if record.fence is FenceMode.COOPERATIVE:
        return RedisAddress(
            record.endpoint, config.node_username, config.node_password, tls=record.tls
        )
    login = password(config.secret, record.cluster, record.node, user)
    return RedisAddress(record.endpoint, user, login or NO_PASSWORD, tls=record.tls)
