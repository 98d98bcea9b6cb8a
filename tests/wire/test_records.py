"""Discovery records: what is written is read back, and no bytes whatever do harm."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import RemoteProtocolError
from fanout.values.control import End
from fanout.values.names import Endpoint, NodeId, SidecarId
from fanout.values.records import FenceMode, Identity, NodeRecord, NodeState, SidecarRecord
from fanout.wire import records

NODE = NodeRecord(
    cluster="c",
    node=NodeId("n"),
    incarnation=1,
    version=2,
    owner="o",
    state=NodeState.ACTIVE,
    endpoint=Endpoint("h", 1),
    run_id="r",
    lease_seconds=10.0,
)
SIDECAR = SidecarRecord(
    cluster="c", sidecar=SidecarId("s"), incarnation=1, version=2, lease_seconds=10.0
)
IDENTITY = Identity(cluster="c", node=NodeId("n"), incarnation=1, run_id="r")

DECODERS: list[Callable[[bytes], Any]] = [
    records.decode_node,
    records.decode_sidecar,
    records.decode_identity,
]

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
numbers = st.integers(0, 2**63 - 1)
leases = st.floats(0, records.LEASE_SECONDS_MAX, exclude_min=True)
tables = st.dictionaries(names.map(NodeId), numbers, max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
node_records = st.builds(
    NodeRecord,
    cluster=names,
    node=names.map(NodeId),
    incarnation=numbers,
    version=numbers,
    owner=st.text("abcdef0123456789", max_size=32),
    state=st.sampled_from(NodeState),
    endpoint=st.builds(
        Endpoint,
        host=st.sampled_from(["h", "10.0.0.1", "::1"]),
        port=numbers.map(lambda n: n % 65536),
    )
    | st.just(Endpoint(path="/run/r.sock")),
    run_id=st.text("abcdef0123456789", max_size=40),
    lease_seconds=leases,
    fence=st.sampled_from(FenceMode),
    extra=st.dictionaries(st.text().map(lambda text: f"x-{text}"), json_values, max_size=3),
)
sidecar_records = st.builds(
    SidecarRecord,
    cluster=names,
    sidecar=names.map(SidecarId),
    incarnation=numbers,
    version=numbers,
    lease_seconds=leases,
    covered=tables,
    stopped=tables,
    deaf=tables,
    gone=st.booleans(),
    extra=st.dictionaries(st.text().map(lambda text: f"x-{text}"), json_values, max_size=3),
)


def altered(record: Any, text: str) -> bytes:
    """Return a record's bytes with one more member; a repeated name replaces the first."""
    return records.encode_record(record)[:-1] + f",{text}}}".encode()


@given(node_records)
def test_node_records_come_back_as_written(record: NodeRecord) -> None:
    """Nothing of a node's record is lost or changed, unknown fields included."""
    assert records.decode_node(records.encode_record(record)) == record


@given(sidecar_records)
def test_sidecar_records_come_back_as_written(record: SidecarRecord) -> None:
    """Nothing of a sidecar's record is lost or changed, unknown fields included."""
    assert records.decode_sidecar(records.encode_record(record)) == record


@given(names, numbers)
def test_identities_and_ends_come_back_as_written(name: str, number: int) -> None:
    """Identity and END survive the wire."""
    identity = attrs.evolve(IDENTITY, node=NodeId(name), incarnation=number)
    end = End(NodeId(name), number)

    assert records.decode_identity(records.encode_record(identity)) == identity
    assert records.decode_control(records.encode_control(end)) == end


def test_fields_of_newer_builds_are_kept_and_written_back() -> None:
    """An older build in between does not lose what it does not know."""
    raw = altered(NODE, '"zone":{"rack":[1,2]},"extra":3')
    record = records.decode_node(raw)

    assert record.extra == {"zone": {"rack": [1, 2]}, "extra": 3}
    assert json.loads(records.encode_record(record)) == json.loads(raw)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    """Whatever comes, it is a record or a RemoteProtocolError; control messages never raise."""
    for decode in DECODERS:
        with contextlib.suppress(RemoteProtocolError):
            decode(raw)
    records.decode_control(raw)


@given(st.sampled_from([NODE, SIDECAR, IDENTITY]), st.data())
def test_any_value_in_any_field_is_read_or_refused_by_name(
    record: Any, data: st.DataObject
) -> None:
    """A wrong field is named in the error; a right one can be written again."""
    decode = DECODERS[[NODE, SIDECAR, IDENTITY].index(record)]
    written = json.loads(records.encode_record(record))
    name = data.draw(st.sampled_from(sorted(written)))
    written[name] = data.draw(json_values)
    told = ""
    try:
        decoded = decode(json.dumps(written).encode())
    except RemoteProtocolError as error:
        told = str(error)
    else:
        assert decode(records.encode_record(decoded)) == decoded
    assert not told or f"field {name} of a record" in told


@pytest.mark.parametrize(
    ("record", "text", "told"),
    [
        (NODE, '"lease_seconds":1' + "0" * 400, "field lease_seconds"),
        (NODE, '"lease_seconds":0', "field lease_seconds"),
        (NODE, '"lease_seconds":true', "field lease_seconds"),
        (NODE, '"lease_seconds":NaN', "NaN is not a number"),
        (NODE, '"new":-Infinity', "-Infinity is not a number"),
        (NODE, '"new":1e999', "1e999 is not a number"),
        (NODE, '"incarnation":1.0', "field incarnation"),
        (NODE, '"version":-1', "field version"),
        (NODE, '"version":true', "field version"),
        (NODE, '"version":9223372036854775808', "field version"),
        (NODE, '"state":"asleep"', "field state"),
        (NODE, '"endpoint":"h:65536"', "field endpoint"),
        (NODE, '"endpoint":"[[h:1"', "field endpoint"),
        (NODE, '"node":"a b"', "field node"),
        (NODE, f'"node":"{"n" * 65}"', "field node"),
        (NODE, f'"run_id":"{"r" * 257}"', "field run_id"),
        (NODE, '"owner":"a\\nb"', "field owner"),
        (NODE, f'"new":{"[" * 40}{"]" * 40}', "field 'new' of a record: nested"),
        (NODE, f'"new":{"[" * 8000}{"]" * 8000}', "nested|not JSON"),
        (NODE, f'"new":"{"n" * records.NODE_BYTES_MAX}"', "bytes exceeds the limit of 16384"),
        (SIDECAR, f'"new":"{"n" * records.SIDECAR_BYTES_MAX}"', "bytes exceeds the limit of 65536"),
        (SIDECAR, '"covered":{"n":"1"}', "field covered"),
        (SIDECAR, '"deaf":[]', "field deaf"),
        (SIDECAR, '"gone":0', "field gone"),
    ],
)
def test_wrong_fields_are_refused(record: Any, text: str, told: str) -> None:
    """Every kind of wrong value has an error that says where it is."""
    decode = records.decode_node if record is NODE else records.decode_sidecar
    with pytest.raises(RemoteProtocolError, match=told):
        decode(altered(record, text))


@pytest.mark.parametrize("field", ["state", "endpoint", "fence", "owner"])
def test_an_error_does_not_repeat_a_long_value(field: str) -> None:
    """It goes to the log with every read."""
    with pytest.raises(RemoteProtocolError) as caught:
        records.decode_node(altered(NODE, f'"{field}":"{"x" * 9000}"'))

    assert f"field {field} of a record" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_record_may_be_as_large_as_the_limit() -> None:
    """The limits are the largest sizes taken, not the smallest refused."""
    short = len(altered(NODE, '"new":""'))
    largest = altered(NODE, f'"new":"{"n" * (records.NODE_BYTES_MAX - short)}"')

    assert len(largest) == records.NODE_BYTES_MAX
    assert records.decode_node(largest).node == NODE.node


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"type":"fence"}', b'{"type":"end"}', b"\xff"])
def test_unknown_control_messages_are_none(raw: bytes) -> None:
    """A newer build may say what this one does not know; it is no error."""
    assert records.decode_control(raw) is None


def test_keys_of_a_cluster_share_one_slot() -> None:
    """Names are fixed: other builds and operators rely on them."""
    assert records.NODE.key("c", "n") == "fanout:{c}:node:n"
    assert records.SIDECAR.key("c", "s") == "fanout:{c}:sidecar:s"
    assert records.NODE.index_key("c") == "fanout:{c}:nodes"
    assert records.SIDECAR.index_key("c") == "fanout:{c}:sidecars"
    assert records.hint_channel("c") == "fanout:{c}:hint"
