"""Discovery records and control messages as JSON: unknown fields are kept, all others are checked.

Discovery may hold arbitrary bytes, so a decoder raises only `RemoteProtocolError`, and what it
returns can always be encoded again.
"""

import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import attrs

from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values.control import BarrierReached, Deaf, End, OrderBarrier
from fanout.values.names import NAME, Endpoint, NodeId, SidecarId
from fanout.values.records import (
    DrainRequest,
    FenceMode,
    Identity,
    NodeRecord,
    NodeState,
    Record,
    SidecarRecord,
)

NODE_BYTES_MAX = 16_384
"""The largest record of a node. It takes a few hundred bytes; newer versions may add fields."""

SIDECAR_BYTES_MAX = 65_536
"""The largest record of a sidecar, which lists nodes: covered, stopped and deaf."""

CONTROL_BYTES_MAX = 65_536

LEASE_SECONDS_MAX = 86_400.0
"""The longest lease: more than a day without a heartbeat is a mistake."""

DEPTH_MAX = 16
"""The deepest nesting of unknown fields; encoding them must not exhaust the stack."""

_ERROR_CHARACTERS_MAX = 200
_TEXT_MAX = 256
_NUMBER_MAX = 2**63
NUMBERS_MAX = 1024  # in a table by name
_T = TypeVar("_T")
R = TypeVar("R", bound=Record)


def drain_key(cluster: str, node: str) -> str:
    """Return the key of a request to a node's agent."""
    return f"fanout:{{{cluster}}}:drain:{node}"


def hint_channel(cluster: str) -> str:
    """Return the channel for hints that discovery has changed and should be read now."""
    return f"fanout:{{{cluster}}}:hint"


def encode_record(record: Any) -> bytes:
    """Encode an attrs value as a JSON object; unknown fields that were read are written back."""
    data: dict[str, Any] = dict(getattr(record, "extra", {}))
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        if field.name == "extra":
            continue
        if isinstance(value, Enum):
            value = value.value
        elif isinstance(value, Endpoint):
            value = str(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        data[field.name] = value
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def decode_node(raw: bytes) -> NodeRecord:
    """Decode a node's record. Raises RemoteProtocolError naming the field at fault."""
    return decode_fields(NodeRecord, raw, NODE_BYTES_MAX)


def decode_sidecar(raw: bytes) -> SidecarRecord:
    """Decode a sidecar's record. Raises RemoteProtocolError naming the field at fault."""
    return decode_fields(SidecarRecord, raw, SIDECAR_BYTES_MAX)


def decode_identity(raw: bytes) -> Identity:
    """Decode a node's identity. Raises RemoteProtocolError naming the field at fault."""
    return decode_fields(Identity, raw, NODE_BYTES_MAX)


def decode_drain(raw: bytes) -> DrainRequest:
    """Decode a request to an agent. Raises RemoteProtocolError naming the field at fault."""
    return decode_fields(DrainRequest, raw, NODE_BYTES_MAX)


@attrs.frozen(eq=False)
class RecordKind(Generic[R]):
    """One kind of record in discovery.

    Attributes:
        name: a word for one such record; with "s" it names the index of their ids.
        type: the class of the records; no two kinds share it.
        decode: decodes one; raises only RemoteProtocolError, for any bytes.
        encode: encodes one so that `decode` can decode it.

    """

    name: str
    type: type[R]
    decode: Callable[[bytes], R]
    encode: Callable[[R], bytes] = encode_record

    def key(self, cluster: str, id_: str) -> str:
        """Return the key of a record. The braces keep a fleet on one Redis Cluster slot."""
        return f"fanout:{{{cluster}}}:{self.name}:{id_}"

    def index_key(self, cluster: str) -> str:
        """Return the key of the set of ids."""
        return f"fanout:{{{cluster}}}:{self.name}s"


NODE = RecordKind("node", NodeRecord, decode_node)
SIDECAR = RecordKind("sidecar", SidecarRecord, decode_sidecar)

Control = End | OrderBarrier | BarrierReached | Deaf


def encode_control(message: Control) -> bytes:
    """Encode a control message."""
    match message:
        case End(node, incarnation):
            data: dict[str, Any] = {"type": "end", "node": node, "incarnation": incarnation}
        case OrderBarrier(sidecar, number):
            data = {"type": "fence", "sidecar": sidecar, "number": number}
        case BarrierReached(number):
            data = {"type": "fence_received", "number": number}
        case Deaf(sidecar, nodes):
            data = {"type": "deaf", "sidecar": sidecar, "nodes": dict(nodes)}
    return json.dumps(data).encode()


def decode_control(raw: bytes) -> Control | None:
    """Decode a control message; return None if it is unknown or malformed.

    Never raises: it is called while a batch of a node is read, and every client with access to
    the node can publish there.
    """
    try:
        data = _object(raw, CONTROL_BYTES_MAX)
        match data.get("type"):
            case "end":
                return End(NodeId(read_name(data.get("node"))), _integer(data.get("incarnation")))
            case "fence":
                sidecar = SidecarId(read_name(data.get("sidecar")))
                return OrderBarrier(sidecar, _integer(data.get("number")))
            case "fence_received":
                return BarrierReached(_integer(data.get("number")))
            case "deaf":
                sidecar = SidecarId(read_name(data.get("sidecar")))
                return Deaf(sidecar, read_numbers(data.get("nodes")))
    except (RemoteProtocolError, ValueError):
        pass
    return None


def _object(raw: bytes, bytes_max: int) -> dict[str, Any]:
    if len(raw) > bytes_max:
        raise RemoteProtocolError(f"record of {len(raw)} bytes exceeds the limit of {bytes_max}")
    try:
        data = json.loads(raw.decode(), parse_constant=_not_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(
            f"a record is not JSON: {str(error)[:_ERROR_CHARACTERS_MAX]}"
        ) from None
    if not isinstance(data, dict):
        raise RemoteProtocolError("a record is not a JSON object")
    for name, value in data.items():
        if not _is_shallow(value):
            raise RemoteProtocolError(f"field {name[:64]!r} of a record: nested too deeply")
    return data


def _not_finite(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text[:32])


def _is_shallow(value: Any) -> bool:
    """Return whether `value` nests at most `DEPTH_MAX` deep; iterative, so any depth is safe."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return True
    return False


def decode_fields(
    kind: type[_T],
    raw: bytes,
    bytes_max: int,
    readers: Mapping[str, Callable[[Any], Any]] = MappingProxyType({}),
) -> _T:
    """Decode a JSON object of at most `bytes_max` into an attrs class, unknown fields into `extra`.

    `readers` are for fields that no record in this module has: each returns the value, or raises
    ValueError or ConfigError. Raises RemoteProtocolError naming the field at fault.
    """
    data = _object(raw, bytes_max)
    values: dict[str, Any] = {}
    for field in attrs.fields(kind):  # type: ignore[arg-type]
        if field.name == "extra" or (field.name not in data and field.default is not attrs.NOTHING):
            continue
        try:
            read = readers.get(field.name) or _READERS[field.name]
            values[field.name] = read(data.pop(field.name, None))
        except (ValueError, ConfigError) as error:
            why = str(error)[:_ERROR_CHARACTERS_MAX]  # it may repeat the value
            raise RemoteProtocolError(f"field {field.name} of a record: {why}") from None
    if hasattr(attrs.fields(kind), "extra"):  # type: ignore[arg-type]
        values["extra"] = data
    return kind(**values)


def read_name(value: Any) -> str:
    """Return a valid name. Raises ValueError."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("not a name")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_MAX or not value.isprintable():
        raise ValueError("not a short text")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _NUMBER_MAX:
        raise ValueError("not a whole number")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")  # noqa: TRY004 - a wrong value of a peer
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= LEASE_SECONDS_MAX:
        raise ValueError(f"not a time in seconds, over 0 and at most {LEASE_SECONDS_MAX:g}")
    return float(value)


def read_numbers(value: Any) -> dict[Any, int]:
    """Return a table of whole numbers by name. Raises ValueError."""
    if not isinstance(value, dict) or len(value) > NUMBERS_MAX:
        raise ValueError("not a table of numbers by name")
    return {read_name(name): _integer(number) for name, number in value.items()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "cluster": read_name,
    "node": read_name,
    "sidecar": read_name,
    "incarnation": _integer,
    "version": _integer,
    "owner": _text,
    "state": NodeState,
    "endpoint": lambda value: Endpoint.parse(_text(value)),
    "run_id": _text,
    "lease_seconds": _seconds,
    "fence": FenceMode,
    "tls": _flag,
    "protocol_min": _integer,
    "protocol_max": _integer,
    "covered": read_numbers,
    "stopped": read_numbers,
    "deaf": read_numbers,
    "gone": _flag,
    "force": _flag,
}
