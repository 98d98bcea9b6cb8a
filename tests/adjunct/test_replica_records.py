"""The records of databases and routers: whatever the bytes, a record or a clear refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.replicas.records import (
    DATABASE,
    RECORD_BYTES_MAX,
    ROUTER,
    DatabaseRecord,
    RouterRecord,
    database_name,
    server,
    weighted_server,
)
from fanout.errors import ConfigError, RemoteProtocolError
from fanout.values import NAME, Endpoint

NAMES = st.from_regex(NAME, fullmatch=True)
SERVERS = st.builds(lambda host, port: f"{host}:{port}", st.sampled_from(["h", "10.0.0.1", "[::1]"]),
    st.integers(1, 65535))  # fmt: skip
NUMBERS = st.integers(0, 2**62)
DATABASES = st.builds(
    DatabaseRecord, cluster=NAMES, database=NAMES, version=NUMBERS, primary=st.just("") | SERVERS,
    former=st.just("") | SERVERS, replicas=st.dictionaries(SERVERS, st.integers(0, 1000), max_size=5),
)  # fmt: skip
ROUTERS = st.builds(
    RouterRecord, cluster=NAMES, router=NAMES, version=NUMBERS, gone=st.booleans(),
    lease_seconds=st.floats(0.1, 86_400), seen=st.dictionaries(NAMES, NUMBERS, max_size=5),
)  # fmt: skip


@given(DATABASES)
def test_a_database_is_read_as_written(record: DatabaseRecord) -> None:
    """And its topology is what it says."""
    assert DATABASE.decode(DATABASE.encode(record)) == record
    found = record.topology
    assert found.version == record.version
    assert str(found.primary or "") == record.primary
    assert {str(each): weight for each, weight in found.replicas.items()} == record.replicas


@given(ROUTERS)
def test_a_router_is_read_as_written(record: RouterRecord) -> None:
    """A newer build may have written more."""
    written = json.loads(ROUTER.encode(record))
    assert ROUTER.decode(json.dumps({**written, "more": [1]}).encode()) == record


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | SERVERS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | SERVERS, inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ("cluster", "database", "router", "version", "primary", "former", "replicas", "seen", "gone",
    "lease_seconds")  # fmt: skip


@given(
    st.binary()
    | st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda d: json.dumps(d).encode())
)
def test_whatever_the_bytes_it_is_a_record_or_refused(raw: bytes) -> None:
    """Whoever can write to discovery can write anything; what is read can be written again."""
    for kind in (DATABASE, ROUTER):
        try:
            record = kind.decode(raw)
        except RemoteProtocolError:
            continue
        assert kind.decode(kind.encode(record)) == record


GOOD: dict[str, Any] = {
    "cluster": "c", "database": "shop", "version": 1, "primary": "h:1", "replicas": {"h:2": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cluster": "../x"}, "not a name"),
        ({"version": -1}, "whole number"),
        ({"version": True}, "whole number"),
        ({"version": 2**70}, "too large"),
        ({"primary": "unix:/x"}, "HOST:PORT"),
        ({"primary": "h:0"}, "HOST:PORT"),
        ({"primary": ["h:1"]}, "HOST:PORT"),
        ({"replicas": {"h": 1}}, "HOST:PORT"),
        ({"replicas": {"h:2": 1001}}, "too large"),
        ({"replicas": {f"h:{port}": 1 for port in range(1, 300)}}, "too long"),
        ({"replicas": None}, "not a table"),
    ],
)
def test_a_wrong_field_is_told(change: dict[str, Any], why: str) -> None:
    """It is logged where it is skipped."""
    assert DATABASE.decode(json.dumps(GOOD).encode()).topology.primary == Endpoint("h", 1)
    with pytest.raises(RemoteProtocolError, match=why):
        DATABASE.decode(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("lease_seconds", [0, -1, 86_401, True, "1", None])
def test_a_lease_that_nobody_would_wait_for_is_told(lease_seconds: Any) -> None:
    """A process that wanted to be waited for so long could stop every switch."""
    good = {"cluster": "c", "router": "r", "version": 1, "seen": {}, "lease_seconds": 86_400}
    assert ROUTER.decode(json.dumps(good).encode()).lease_seconds == 86_400
    with pytest.raises(RemoteProtocolError, match="not a lease"):
        ROUTER.decode(json.dumps({**good, "lease_seconds": lease_seconds}).encode())


def test_missing_fields_and_too_many_bytes_are_told() -> None:
    """Before anything is read of the latter."""
    for name in GOOD:
        rest = {key: value for key, value in GOOD.items() if key != name}
        with pytest.raises(RemoteProtocolError, match=f"without '{name}'"):
            DATABASE.decode(json.dumps(rest).encode())
    with pytest.raises(RemoteProtocolError, match="over"):
        DATABASE.decode(b" " * (RECORD_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:",
        "h:0",
        "h:65536",
        ":1",
        "unix:/x",
        "a b:1",
        "mysql://u:canary@h:1",
        "u:canary@h:1",
    ],
)
def test_what_is_no_server_is_refused_without_a_password(text: str) -> None:
    """Somebody may take it for a URL."""
    with pytest.raises(ConfigError, match="HOST:PORT") as refused:
        server(text)
    assert "canary" not in str(refused.value)


def test_servers_have_one_spelling() -> None:
    """So that one server is not taken for two."""
    assert server("[::1]:03306") == "[::1]:3306"
    assert weighted_server("h:1") == ("h:1", 1)
    assert weighted_server("[::1]:1=0") == ("[::1]:1", 0)
    assert weighted_server("h:1=1000") == ("h:1", 1000)
    assert database_name("shop-1") == "shop-1"


@pytest.mark.parametrize(
    "text", ["h:1=", "h:1=-1", "h:1=1001", "h:1=x", "h:1=1.5", "h:1=\u0663", "h:1=" + "9" * 5000]
)
def test_a_wrong_weight_is_refused(text: str) -> None:
    """With what is allowed."""
    with pytest.raises(ConfigError, match="0 to 1000"):
        weighted_server(text)
