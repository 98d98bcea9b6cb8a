"""What an instance of a pool tells discovery about itself, by way of its sidecar."""

from collections.abc import Mapping
from typing import Any

import attrs

from fanout.config import gateway_address, gateway_ips, gateway_weight
from fanout.values import NodeState
from fanout.wire.records import RecordKind, decode_fields, read_name

BYTES_MAX = 4096
"""A record takes a few hundred bytes; the rest is room for newer builds."""


@attrs.frozen(slots=True, kw_only=True)
class InstanceRecord:
    """One instance of a pool. One writer; newest wins."""

    cluster: str
    pool: str
    instance: str  # the sidecar's id
    incarnation: int  # number of this life of the instance; a service that was away begins anew
    version: int
    state: NodeState  # the states of nodes: joining, active, draining, gone
    address: str  # where users reach it; see `fanout.config.gateway_address`
    lease_seconds: float
    ips: tuple[str, ...] = ()  # for DNS
    weight: int = 1
    extra: Mapping[str, Any] = attrs.field(factory=dict)  # fields of a newer build, kept as read

    @property
    def id(self) -> str:
        """Its name among the instances of all pools: no name holds a slash."""
        return f"{self.pool}/{self.instance}"

    @property
    def stamp(self) -> tuple[int, int]:
        """Order of the records of one instance: the larger is the newer."""
        return (self.incarnation, self.version)

    @property
    def gone(self) -> bool:
        """Whether it says goodbye."""
        return self.state is NodeState.GONE


def decode_instance(raw: bytes) -> InstanceRecord:
    """Decode an instance's record. Raises RemoteProtocolError naming the field at fault."""
    return decode_fields(InstanceRecord, raw, BYTES_MAX, _READERS)


def _weight(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("not a whole number")
    return gateway_weight(value)


_READERS = {
    "pool": read_name,
    "instance": read_name,
    "address": gateway_address,
    "ips": gateway_ips,
    "weight": _weight,
}

INSTANCES = RecordKind("instance", InstanceRecord, decode_instance)
