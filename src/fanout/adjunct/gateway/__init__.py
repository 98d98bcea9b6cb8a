"""The gateway: users are handed out to the instances of a pool, and come back to the same one.

`instance` is what an instance tells discovery, `pools` chooses, `affinity` signs the tokens of
returning users, `service` is all of it in a sidecar, and `dns` keeps a name equal to a pool.
"""

from fanout.adjunct.gateway.affinity import Affinity
from fanout.adjunct.gateway.instance import INSTANCES, InstanceRecord
from fanout.adjunct.gateway.pools import GatewayError, NoInstance, Pick, Pools, UnknownPool

__all__ = [
    "INSTANCES",
    "Affinity",
    "GatewayError",
    "InstanceRecord",
    "NoInstance",
    "Pick",
    "Pools",
    "UnknownPool",
]
