"""The records of databases: whatever the bytes, a record or a clear refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.topology import DATABASE, RECORD_BYTES_MAX, DatabaseRecord
from fanout.errors import RemoteProtocolError
from fanout.values.names import NAME

NAMES = st.from_regex(NAME, fullmatch=True)
SERVERS = st.builds(lambda host, port: f"{host}:{port}", st.sampled_from(["h", "10.0.0.1", "[::1]"]),
    st.integers(1, 65535))  # fmt: skip
NUMBERS = st.integers(0, 2**62)
DATABASES = st.builds(
    DatabaseRecord, cluster=NAMES, database=NAMES, version=NUMBERS, primary=SERVERS,
    replicas=st.dictionaries(SERVERS, st.integers(0, 1000), max_size=5),
)  # fmt: skip


@given(DATABASES)
def test_a_database_is_read_as_written(record: DatabaseRecord) -> None:
    """As by any process that routes; a newer build may have written more."""
    written = json.loads(DATABASE.encode(record))
    assert DATABASE.decode(json.dumps({**written, "more": [1]}).encode()) == record


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | SERVERS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | SERVERS, inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ("cluster", "database", "version", "primary", "replicas")


@given(
    st.binary()
    | st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda d: json.dumps(d).encode())
)
def test_whatever_the_bytes_it_is_a_record_or_refused(raw: bytes) -> None:
    """Any writer of discovery can write any bytes; what is read can be written again."""
    try:
        record = DATABASE.decode(raw)
    except RemoteProtocolError:
        return
    assert DATABASE.decode(DATABASE.encode(record)) == record


GOOD: dict[str, Any] = {
    "cluster": "c", "database": "shop", "version": 1, "primary": "h:1", "replicas": {"h:2": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cluster": "../x"}, "not a name"),
        ({"version": -1}, "whole number"),
        ({"version": True}, "whole number"),
        ({"version": 2**70}, "whole number"),
        ({"primary": "unix:/x"}, "HOST:PORT"),
        ({"primary": "h:0"}, "port other than 0"),
        ({"primary": ""}, "HOST:PORT"),
        ({"primary": "a b:1"}, "HOST:PORT"),
        ({"primary": "h:65536"}, "65535"),
        ({"primary": ["h:1"]}, "HOST:PORT"),
        ({"replicas": {"h": 1}}, "HOST:PORT"),
        ({"replicas": {"h:2": 1001}}, "0 to 1000"),
        ({"replicas": {"h:2": -1}}, "0 to 1000"),
        ({"replicas": {"h:2": 1.5}}, "0 to 1000"),
        ({"replicas": {"h:2": "x"}}, "0 to 1000"),
        ({"replicas": {f"h:{port}": 1 for port in range(1, 300)}}, "too long"),
        ({"replicas": None}, "not a table"),
    ],
)
def test_a_wrong_field_is_told(change: dict[str, Any], why: str) -> None:
    """It is logged where it is skipped."""
    assert DATABASE.decode(json.dumps(GOOD).encode()).primary == "h:1"
    with pytest.raises(RemoteProtocolError, match=why):
        DATABASE.decode(json.dumps({**GOOD, **change}).encode())


def test_missing_fields_and_too_many_bytes_are_told() -> None:
    """Before anything is read of the latter."""
    for name in GOOD:
        rest = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(RemoteProtocolError, match=f"field {name} "):
            DATABASE.decode(json.dumps(rest).encode())
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        DATABASE.decode(b" " * (RECORD_BYTES_MAX + 1))


def test_what_is_no_server_is_refused_without_a_password() -> None:
    """A user may mistake it for a URL."""
    for text in ("mysql://u:canary@h:1", "u:canary@h:1"):
        with pytest.raises(RemoteProtocolError, match="HOST:PORT") as refused:
            DATABASE.decode(json.dumps({**GOOD, "primary": text}).encode())
        assert "canary" not in str(refused.value)


def test_servers_have_one_spelling() -> None:
    """So that one server is not taken for two."""
    written = {**GOOD, "primary": "[::1]:03306", "replicas": {"h:02": "3"}}
    found = DATABASE.decode(json.dumps(written).encode())
    assert found.primary == "[::1]:3306"
    assert found.replicas == {"h:2": 3}
