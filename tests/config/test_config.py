"""The table of options: valid and invalid values, and that no secret is shown."""

from typing import Any
from urllib.parse import quote

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.config import (
    DiscoveryAddress,
    DnsConfig,
    DnsKey,
    NodeConfig,
    RedisAddress,
    SidecarConfig,
    Timings,
    options,
    renamed,
)
from fanout.errors import ConfigError, SettingError
from fanout.values.names import Endpoint

URL = "redis://127.0.0.1:1"
SIDECAR: dict[str, object] = {"id": "s", "discovery": URL}
NODE: dict[str, object] = {"id": "n", "discovery": URL, "spawn": "127.0.0.1:0"}
DNS: dict[str, object] = {
    "discovery": URL,
    "pool": "web",
    "zone": "example.org",
    "server": "127.0.0.1",
    "dns_key": "k:c2VjcmV0",
}
ADDRESSES = (
    *("redis", "spawn", "advertise", "discovery", "local"),
    *("gateway_check", "server", "dns_key"),
)

CASES = [(SidecarConfig, SIDECAR), (NodeConfig, NODE), (DnsConfig, DNS)]
EVERY_OPTION = [(config, base, name) for config, base in CASES for name in options(config)]


def read(config: Any, name: str) -> Any:
    """Return the value of an option, also in a part of the configuration."""
    holders = [config, *(getattr(config, part, None) for part in ("timings", "limits", "gateway"))]
    return next(getattr(holder, name) for holder in holders if hasattr(holder, name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", RedisAddress(Endpoint("h", 6379))),
        ("redis://h/", RedisAddress(Endpoint("h", 6379))),
        ("redis://10.0.0.5:7/3", RedisAddress(Endpoint("10.0.0.5", 7), database=3)),
        ("redis://[::1]:7", RedisAddress(Endpoint("::1", 7))),
        ("redis://me@h:1", RedisAddress(Endpoint("h", 1), username="me")),
        ("redis://:secret@h:1", RedisAddress(Endpoint("h", 1), password="secret")),
        ("redis://me:a%2Fb@h:1", RedisAddress(Endpoint("h", 1), "me", "a/b")),
        ("unix:///run/r.sock", RedisAddress(Endpoint(path="/run/r.sock"))),
        ("unix://me:pw@/r?db=2", RedisAddress(Endpoint(path="/r"), "me", "pw", 2)),
    ],
)
def test_redis_urls(text: str, expected: RedisAddress) -> None:
    """Every documented form is parsed."""
    assert RedisAddress.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("h:1", "redis://HOST:PORT"),
        ("http://h", "redis://HOST:PORT"),
        ("redis://", "no host"),
        ("redis:///3", "no host"),
        ("redis://h:0", "port 0"),
        ("redis://h:99999", "malformed"),
        ("redis://h:x", "malformed"),
        ("redis://[::1", "malformed"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h?db=1", "query"),
        ("redis://h?password=canary", "query"),
        ("redis://h#1", "fragment"),
        ("redis://a b", "white space"),
        ("unix://", "no path"),
        ("unix://host/path", "has no host"),
        ("unix:///r?db=x", "database"),
        ("unix:///r?db=1&timeout=3", "query"),
    ],
)
def test_redis_urls_that_are_refused(text: str, word: str) -> None:
    """What redis-py ignores is an error that gives the reason."""
    with pytest.raises(ConfigError, match=word) as caught:
        RedisAddress.parse(text)

    assert "canary" not in str(caught.value)


@given(password=st.text(min_size=1))
def test_a_quoted_password_arrives_and_is_never_shown(password: str) -> None:
    """Any quoted password is parsed, and neither str() nor repr() depends on it."""
    text = f"redis://me:{quote(password, safe='')}@h:1"
    address = DiscoveryAddress.parse(f"{text},{text}/2").replicas[0]

    assert address.password == password
    other = attrs.evolve(address, password="")
    assert (str(address), repr(address)) == (str(other), repr(other))


PIECES = st.lists(st.sampled_from([*"ab/?#@:,%[ \n", "://"]), max_size=4).map("".join)


@settings(max_examples=300)
@example(before="", after="://", scheme="redis:/", name="discovery")
@example(before=",", after="://", scheme="redis://", name="discovery")
@example(before="", after=" ", scheme="redis://", name="discovery")
@given(
    before=PIECES,
    after=PIECES,
    scheme=st.sampled_from(["redis://", "rediss://", "redis:/", ""]),
    name=st.sampled_from(["discovery", "redis", "spawn", "advertise", "cluster", "lease_seconds"]),
)
def test_no_message_repeats_a_password(before: str, after: str, scheme: str, name: str) -> None:
    """The error for a malformed URL, in any option, does not contain its password."""
    value = f"{scheme}me:{before}canary{after}@h:x"
    with pytest.raises(SettingError) as caught:
        NodeConfig.from_mapping({**NODE, name: value})

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.53", Endpoint("10.0.0.53", 53)),
        ("ns.example.org:5353", Endpoint("ns.example.org", 5353)),
        ("2001:db8::53", Endpoint("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Endpoint("2001:db8::53", 5353)),
    ],
)
def test_name_servers(text: str, endpoint: Endpoint) -> None:
    """The port defaults to 53."""
    assert DnsConfig.from_mapping({**DNS, "server": text}).server == endpoint


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("k:c2VjcmV0", DnsKey("k", "c2VjcmV0")),
        ("Up.Dates.:c2VjcmV0\n", DnsKey("up.dates", "c2VjcmV0")),
        ("hmac-sha512:k:c2VjcmV0", DnsKey("k", "c2VjcmV0", "hmac-sha512")),
    ],
)
def test_keys_of_name_servers(text: str, key: DnsKey) -> None:
    """Keys as name servers and their tools write them; repr() does not show the secret."""
    assert DnsConfig.from_mapping({**DNS, "dns_key": text}).dns_key == key
    assert "c2VjcmV0" not in repr(key)


@pytest.mark.parametrize(
    "text", ["canary", "k:", ":canary", "k:canary!", "md5:k:canary", "a:b:k:canary", "k k:canary"]
)
def test_keys_that_are_refused(text: str) -> None:
    """The error contains no part of what may be the secret."""
    with pytest.raises(SettingError, match="NAME:SECRET") as caught:
        DnsConfig.from_mapping({**DNS, "dns_key": text})

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fqdn"), [("", "web.example.org"), ("www.Example.org.", "www.example.org")]
)
def test_the_name_of_a_pool(name: str, fqdn: str) -> None:
    """POOL.ZONE by default, or any name within the zone, the zone itself included."""
    given_ = {"name": name} if name else {}
    assert DnsConfig.from_mapping({**DNS, **given_}).fqdn == fqdn
    assert DnsConfig.from_mapping({**DNS, "name": "example.org"}).fqdn == "example.org"
    with pytest.raises(SettingError, match="must be in the zone"):
        DnsConfig.from_mapping({**DNS, "name": "www.badexample.org"})


@pytest.mark.parametrize(
    ("address", "given", "ips"),
    [
        ("https://192.0.2.1:8080/x", "", ("192.0.2.1",)),
        ("[2001:DB8::1]:80", "", ("2001:db8::1",)),
        ("https://web.example", "", ()),
        ("https://192.0.2.1", "192.0.2.9 2001:db8::9", ("192.0.2.9", "2001:db8::9")),
    ],
)
def test_addresses_of_an_instance_in_dns(address: str, given: str, ips: tuple[str, ...]) -> None:
    """The given addresses, or else the host of the instance's address."""
    values = {"gateway_pool": "web", "gateway_address": address, "gateway_ip": given}
    assert SidecarConfig.from_mapping({**SIDECAR, **values}).gateway.ips == ips
    assert SidecarConfig.from_mapping(SIDECAR).gateway.ips == ()


def test_a_pool_that_is_no_name_in_dns_is_refused() -> None:
    """Unless another name is given."""
    with pytest.raises(ConfigError, match=r"a\.\.b\.example\.org"):
        DnsConfig.from_mapping({**DNS, "pool": "a..b"})
    named = {**DNS, "pool": "a..b", "name": "web.example.org"}
    assert DnsConfig.from_mapping(named).fqdn == "web.example.org"


def test_discovery_names_primaries_and_replicas() -> None:
    """Instances are separated by white space in a text, replicas by commas in an instance."""
    wanted = (
        DiscoveryAddress(RedisAddress(Endpoint("a", 1)), (RedisAddress(Endpoint("b", 2)),)),
        DiscoveryAddress(RedisAddress(Endpoint("c", 3))),
    )
    for value in (
        "redis://a:1,redis://b:2  redis://c:3\n",
        ["redis://a:1,redis://b:2", "redis://c:3"],
        ("redis://a:1,redis://b:2", "redis://c:3"),
    ):
        assert SidecarConfig.from_mapping({**SIDECAR, "discovery": value}).discovery == wanted


@pytest.mark.parametrize(("config", "base", "name"), EVERY_OPTION)
def test_every_option_reads_the_text_of_its_value(
    config: Any, base: dict[str, object], name: str
) -> None:
    """Giving the default of an option is the same as omitting the option."""
    default = options(config)[name].default
    if name in ADDRESSES or default in ("", None):
        with pytest.raises(SettingError):
            config.from_mapping({**base, name: ""})
        return
    text = "" if default == () else str(default)
    assert read(config.from_mapping({**base, name: text}), name) == default


@pytest.mark.parametrize(("config", "base", "name"), EVERY_OPTION)
@settings(max_examples=25)
@given(
    value=st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()),
        st.just(10**400), st.just({"a": 1}), st.just("1" * 5000),
    )
)  # fmt: skip
def test_anything_else_is_refused_by_name(
    config: Any, base: dict[str, object], name: str, value: object
) -> None:
    """Any value gives a configuration or an error that names the option."""
    named: tuple[str, ...] = (name,)
    try:
        config.from_mapping({**base, name: value})
    except SettingError as error:
        named = error.names

    assert name in named


@pytest.mark.parametrize(("config", "base", "name"), EVERY_OPTION)
def test_every_option_explains_itself(config: Any, base: dict[str, object], name: str) -> None:
    """The help is a sentence; a quantity has a unit and states the cost of raising it."""
    metadata = options(config)[name].metadata

    assert metadata["help"].endswith(".")
    quantity = isinstance(options(config)[name].default, int | float)
    assert quantity == (metadata["metavar"] in ("SECONDS", "BYTES", "COUNT", "NODES"))
    assert quantity == ("Raising it" in metadata["help"])
    if name.endswith("_seconds"):
        assert metadata["metavar"] == "SECONDS"
    if "_bytes_" in name:
        assert metadata["metavar"] == "BYTES"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"id": "-x"}, ["id: invalid value '-x'", "letter or digit first"]),
        ({"id": "x" * 65}, ["1 to 64"]),
        ({"cluster": "a/b"}, ["cluster: invalid value 'a/b'"]),
        ({"cluster": "a\n"}, ["cluster", "letters"]),
        ({"local": "17"}, ["local: invalid value '17'", "0 to 16"]),
        ({"local": 2}, ["local: 2", "--discovery"]),
        ({"discovery": []}, ["discovery: missing", "--local"]),
        ({"discovery": 5}, ["discovery: invalid value 5", "list of URLs"]),
        ({"ws": "unix:/x"}, ["ws: invalid value 'unix:/x'", "HOST:PORT"]),
        ({"resp": "127.0.0.1:70000"}, ["resp", "65535"]),
        ({"resp": "127.0.0.1:" + "9" * 5000}, ["resp", "65535"]),
        ({"clients_max": 0}, ["clients-max: invalid value 0", "1 to 1000000"]),
        ({"clients_max": 1.5}, ["clients-max: invalid value 1.5", "integer"]),
        ({"lease_seconds": "nan"}, ["lease-seconds: invalid value 'nan'", "greater than 0"]),
        ({"lease_seconds": True}, ["lease-seconds: invalid value True", "number of seconds"]),
        ({"lease_seconds": 3.9}, ["lease-seconds: 3.9", "twice heartbeat-interval-seconds (2)"]),
        ({"reconnect_max_seconds": 0.01}, ["reconnect-max-seconds: 0.01", "(0.05)"]),
        ({"log_level": "loud"}, ["log-level: invalid value 'loud'", "debug, info, warning, error"]),
        ({"lease_second": 1}, ["lease_second: unknown option", "did you mean lease_seconds?"]),
        ({"lease-seconds": 1}, ["did you mean lease_seconds?"]),
        ({"zzz": 1}, ["zzz: unknown option", "known options: id, cluster"]),
        ({"redis": URL}, ["redis: unknown option"]),
    ],
)
def test_a_refusal_names_setting_value_and_what_is_allowed(
    values: dict[str, object], words: list[str]
) -> None:
    """The error has all that is needed to correct the option."""
    with pytest.raises(SettingError) as caught:
        SidecarConfig.from_mapping({**SIDECAR, **values})

    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"id": "n", "spawn": "h:1"}, ["discovery: missing"]),
        ({"id": "n", "discovery": URL}, ["redis: missing", "--spawn"]),
        ({**NODE, "redis": URL}, ["redis: 127.0.0.1:1", "--spawn 127.0.0.1:0"]),
        ({**NODE, "spawn": "unix:/x"}, ["spawn", "HOST:PORT"]),
        ({**NODE, "advertise": "h:0"}, ["advertise: invalid value 'h:0'", "port other than 0"]),
        ({"discovery": URL, "spawn": "h:1"}, ["id: missing"]),
        ({**NODE, "outbox_bytes_max": 5000}, ["outbox_bytes_max: unknown option"]),
    ],
)
def test_a_node_speaks_for_exactly_one_redis(values: dict[str, object], words: list[str]) -> None:
    """A node requires discovery, and one Redis that sidecars can reach."""
    with pytest.raises(SettingError) as caught:
        NodeConfig.from_mapping(values)

    for word in words:
        assert word in str(caught.value)


def test_a_lease_of_exactly_two_heartbeats_is_allowed() -> None:
    """The bound is inclusive."""
    assert Timings(lease_seconds=4, heartbeat_interval_seconds=2).lease_seconds == 4


def test_a_local_fleet_needs_no_discovery() -> None:
    """Its discovery is started with it; the maximum is 16 nodes."""
    config = SidecarConfig.from_mapping({"id": "s", "local": "16"})

    assert (config.local, config.discovery) == (16, ())


@pytest.mark.parametrize("name", ["resp", "ws", "admin"])
@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example:1", "127.0.0.1.x:1"]
)
def test_doors_that_others_reach_are_refused(name: str, address: str) -> None:
    """Unless --allow-unauthenticated allows them."""
    base = {"id": "s", "discovery": "redis://h:1", name: address}
    way = "admin" if name == "admin" else "yes"
    with pytest.raises(SettingError, match=f"--allow-unauthenticated {way}"):
        SidecarConfig.from_mapping(base)
    SidecarConfig.from_mapping({**base, "allow_unauthenticated": way})
    SidecarConfig.from_mapping({**base, "allow_unauthenticated": "yes"})
    if name != "admin":
        with pytest.raises(SettingError, match="--allow-unauthenticated yes"):
            SidecarConfig.from_mapping({**base, "allow_unauthenticated": "admin"})
    for loopback in ("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"):
        SidecarConfig.from_mapping({**base, name: loopback})


@pytest.mark.parametrize(
    "origin", ["app.example", "https://", "https://a/b", "https://u@a", "*", ""]
)
def test_an_origin_is_written_as_browsers_write_it(origin: str) -> None:
    """Anything else would never match; the error gives the form."""
    with pytest.raises(SettingError, match=r"origin: .* expected SCHEME://HOST"):
        SidecarConfig.from_mapping({"id": "s", "discovery": "redis://h:1", "origin": [origin]})


def test_rediss_asks_for_tls() -> None:
    """A redis:// URL does not."""
    assert RedisAddress.parse("rediss://u:p@h:1/2").tls
    assert not RedisAddress.parse("redis://u:p@h:1/2").tls
    assert str(RedisAddress.parse("rediss://h").endpoint) == "h:6379"


def test_a_key_needs_its_certificate() -> None:
    """A key or CA bundle without a certificate is an error, not plain TCP."""
    for name in ("tls_key", "tls_client_ca"):
        with pytest.raises(SettingError, match="tls-cert: missing"):
            SidecarConfig.from_mapping({"id": "s", "discovery": "redis://h:1", name: "f"})


@pytest.mark.parametrize(("config", "base"), CASES)
def test_former_names_are_not_options(config: Any, base: dict[str, object]) -> None:
    """A configuration has only the current names; the sources translate former ones."""
    for former, name in renamed(config).items():
        assert former not in options(config)
        assert options(config)[name].metadata["formerly"] == former
        with pytest.raises(SettingError, match=f"{former}: unknown option"):
            config.from_mapping({**base, former: "no"})
