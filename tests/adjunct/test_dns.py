"""A name in DNS that follows a pool, at a real name server."""

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.tsigkeyring
import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st

from fanout.adjunct.gateway import INSTANCES, InstanceRecord
from fanout.adjunct.gateway.dns import Updater, addresses_wanted
from fanout.adjunct.gateway.name_server import DnsRefused, DnsUnreachable, Name, records_of
from fanout.config import DnsConfig
from fanout.errors import ConfigError
from fanout.runtime.watch import Watch
from fanout.values import NodeState, Snapshot
from tests.adjunct.knot import SECRET, ZONE, Knot
from tests.adjunct.test_pools import instance

pytestmark = pytest.mark.live

LIMIT_SECONDS = 20.0


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    """A name server with one zone."""
    with Knot(tmp_path) as server:
        yield server


class Pool:
    """What discovery says of the instances of `web`, and who keeps the name."""

    def __init__(self, port: int, **other: Any) -> None:
        self.config = DnsConfig.from_mapping(
            {
                "discovery": "redis://h", "pool": "web", "zone": ZONE, "dns_key": f"fanout:{SECRET}",
                "server": f"127.0.0.1:{port}", "grace_seconds": 1e-9, **other,
            }
        )  # fmt: skip
        self.watch = Watch("c", (INSTANCES,), instances=1)
        self.updater = Updater(self.config, self.watch, random.Random(1))
        self._version = 0

    def say(self, **states: str) -> None:
        """Have discovery list instances: `a1="active"` has the addresses 192.0.2.1 and ::1."""
        self._version += 1
        self.watch.on_snapshot(
            0,
            Snapshot(
                further=tuple(
                    instance(
                        name,
                        NodeState(state),
                        version=self._version,
                        ips=addresses(name),
                    )
                    for name, state in states.items()
                )
            ),
        )


def addresses(name: str) -> tuple[str, ...]:
    """Return the addresses of an instance: one of IPv4, and one of IPv6 if its name has a `b`."""
    number = name.lstrip("ab")
    return (f"192.0.2.{number}", f"2001:db8::{number}") if "b" in name else (f"192.0.2.{number}",)


# What the name should lead to.

ADDRESSES = st.sets(st.sampled_from([f"192.0.2.{n}" for n in range(6)]))
RECORDS = st.lists(
    st.builds(
        lambda name, state, ips: instance(name, state, ips=tuple(sorted(ips))),
        st.sampled_from("abcdef"), st.sampled_from(NodeState), ADDRESSES,
    ),
    max_size=6,
)  # fmt: skip


@given(present=ADDRESSES, records=RECORDS, is_sure=st.booleans())
def test_what_a_name_should_lead_to(
    present: set[str],
    records: list[InstanceRecord],
    is_sure: bool,  # noqa: FBT001
) -> None:
    """Every active address; nobody who said that it is not; the last ones rather than nothing."""
    wanted = addresses_wanted(present, records, is_sure=is_sure)
    active = {ip for each in records if each.state is NodeState.ACTIVE for ip in each.ips}
    others = {ip for each in records if each.state is not NodeState.ACTIVE for ip in each.ips}
    unclaimed = present - active - others

    assert wanted or not present
    if active:
        assert wanted == (active if is_sure else active | unclaimed)
    else:
        assert wanted == present


# At the name server.


async def test_the_name_follows_the_instances(knot: Knot) -> None:
    """They come, drain and go; both kinds of addresses; with a low time to live."""
    pool = Pool(knot.port)
    for states, v4, v6 in (
        ({"a1": "active"}, {"192.0.2.1"}, set[str]()),
        ({"b2": "active", "a3": "joining"}, {"192.0.2.1", "192.0.2.2"}, {"2001:db8::2"}),
        ({"a3": "active", "a1": "draining"}, {"192.0.2.2", "192.0.2.3"}, {"2001:db8::2"}),
        ({"b2": "gone"}, {"192.0.2.3"}, set[str]()),
    ):
        pool.say(**states)
        assert await pool.updater.sync() == v4 | v6
        assert await knot.look_up("web") == (v4, 30)
        assert await knot.look_up("web", "AAAA") == (v6, 30 if v6 else 0)


async def test_nothing_is_written_that_is_so_already(knot: Knot) -> None:
    """The zone's serial stays, so that secondaries are left alone."""
    pool = Pool(knot.port)
    pool.say(a1="active", b2="active")
    await pool.updater.sync()
    before = await knot.serial()
    pool.say(a1="active", b2="active", a3="joining")
    await pool.updater.sync()
    await Pool(knot.port).updater.sync()

    assert await knot.serial() == before


async def test_what_others_changed_is_put_right(knot: Knot) -> None:
    """Addresses and times to live; other names and types are none of its business."""
    pool = Pool(knot.port)
    pool.say(a1="active")
    await pool.updater.sync()
    name = Name(pool.config)
    await name.write(await name.read(), records_of(["192.0.2.66", "192.0.2.1"], 30))
    await pool.updater.sync()
    assert await knot.look_up("web") == ({"192.0.2.1"}, 30)

    other = Pool(knot.port, ttl_seconds=5)
    other.say(a1="active")
    await other.updater.sync()
    assert await knot.look_up("web") == ({"192.0.2.1"}, 5)
    assert await knot.look_up("ns") == ({"127.0.0.1"}, 3600)


async def test_the_last_addresses_stay(knot: Knot) -> None:
    """Whether all instances left, drain, or were never there; and while nothing can be read."""
    pool = Pool(knot.port)
    pool.say(a1="active", a2="active")
    await pool.updater.sync()
    both = ({"192.0.2.1", "192.0.2.2"}, 30)
    pool.say(a1="draining", a2="gone")
    await pool.updater.sync()
    assert await knot.look_up("web") == both

    empty = Pool(knot.port)
    empty.watch.on_snapshot(0, Snapshot())
    await empty.updater.sync()
    assert await knot.look_up("web") == both

    pool.say(a3="active")
    pool.watch.on_unreachable(0)
    await pool.updater.sync()
    assert await knot.look_up("web") == both


async def test_after_an_outage_only_those_who_say_so_are_removed(knot: Knot) -> None:
    """Discovery that came back empty has not heard of everybody yet."""
    pool = Pool(knot.port)
    pool.say(a1="active", a2="active", a3="active")
    await pool.updater.sync()
    restarted = Pool(knot.port, grace_seconds=3600)
    restarted.say(a2="active", a3="draining", a4="active")
    await restarted.updater.sync()
    assert await knot.look_up("web") == ({"192.0.2.1", "192.0.2.2", "192.0.2.4"}, 30)


async def test_several_updaters_do_no_harm(knot: Knot) -> None:
    """They change the name at the same time, over and over, and it ends as all want it."""
    pools = [Pool(knot.port) for _ in range(3)]
    for number in range(1, 9):
        states = {f"a{n}": "active" for n in (number, number + 1)}
        gone = {f"a{number - 1}": "gone"} if number > 1 else {}
        async with trio.open_nursery() as nursery:
            for pool in pools:
                pool.say(**states, **gone)
                nursery.start_soon(pool.updater.sync)
        wanted = {f"192.0.2.{number}", f"192.0.2.{number + 1}"}
        assert await knot.look_up("web") == (wanted, 30)


async def test_an_update_that_was_overtaken_does_nothing(knot: Knot) -> None:
    """It was decided on by what is not so any more."""
    name = Name(Pool(knot.port).config)
    empty = await name.read()
    assert await name.write(empty, records_of(["192.0.2.1"], 30))
    before = await name.read()
    assert not await name.write(empty, records_of(["192.0.2.2"], 30))
    assert await name.write(before, records_of(["192.0.2.3"], 30))
    assert not await name.write(before, records_of((), 30))

    assert await knot.look_up("web") == ({"192.0.2.3"}, 30)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dns_key": "fanout:d3Jvbmc="}, "another secret or algorithm for the key fanout"),
        ({"dns_key": f"hmac-sha512:fanout:{SECRET}"}, "the key fanout; see FANOUT_DNS_KEY"),
        ({"dns_key": f"nobody:{SECRET}"}, "does not take updates .* by the key nobody"),
        ({"dns_key": f"reader:{SECRET}"}, "does not take updates .* by the key reader"),
        ({"zone": "example.other"}, "is it the primary of example.other"),
        ({"name": f"alias.{ZONE}"}, "is an alias"),
    ],
)
async def test_refusals_say_what_to_look_at(
    knot: Knot, other: dict[str, str], message: str
) -> None:
    """Of a key, a zone or a name; without the secret, and with the zone as it was."""
    pool = Pool(knot.port, **other)
    pool.say(a1="active")
    before = await knot.serial()
    with pytest.raises(DnsRefused, match=message) as refused:
        await pool.updater.sync()
    with pytest.raises(ConfigError, match=message), trio.fail_after(LIMIT_SECONDS):
        await pool.updater.run(lambda _: None)

    assert SECRET not in str(refused.value) + repr(pool.config)
    assert await knot.serial() == before


async def test_a_server_that_is_away_is_waited_for(knot: Knot) -> None:
    """At first and later; it is told once, and what changed meanwhile is caught up with."""
    pool = Pool(knot.port, check_interval_seconds=0.05)
    pool.say(a1="active")
    knot.stop()
    first = trio.Event()

    async def leads_to(*wanted: str) -> None:
        with trio.fail_after(LIMIT_SECONDS):
            while (await knot.look_up("web"))[0] != set(wanted):  # noqa: ASYNC110 - not our event
                await trio.sleep(0.02)

    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.updater.run, lambda _: first.set())
            await trio.sleep(0.3)
            assert not first.is_set()
            knot.start()
            await leads_to("192.0.2.1")
            await first.wait()

            knot.stop()
            pool.say(a2="active")
            await trio.sleep(0.3)
            knot.start()
            await leads_to("192.0.2.1", "192.0.2.2")
            nursery.cancel_scope.cancel()
    told = [each for each in logs if each["event"] in ("dns_failed", "dns_recovered")]
    assert [each["event"] for each in told] == ["dns_failed", "dns_recovered"] * 2
    assert "Connection refused" in told[0]["reason"]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda _: b"\0\1x", DnsUnreachable, "made no sense"),
        (lambda _: b"", DnsUnreachable, "broke off"),
        (lambda query: answered(query, dns.rcode.SERVFAIL), DnsUnreachable, "SERVFAIL"),
        (lambda query: answered(query, dns.rcode.NOTIMP), DnsRefused, "answered NOTIMP"),
        (lambda query: answered(query, is_primary=False), DnsRefused, "without authority"),
        (lambda query: answered(query, is_signed=False), DnsRefused, "without a signature"),
    ],
)
async def test_answers_that_mean_nothing_change_nothing(
    answer: Callable[[dns.message.Message], bytes], error: type[Exception], message: str
) -> None:
    """They are told apart: what passes is waited for, what does not is somebody's to put right."""
    keys = dns.tsigkeyring.from_text({"fanout": SECRET})

    async def serve(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        await stream.send_all(answer(dns.message.from_wire(asked[2:], keyring=keys)))
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(error, match=message):
            await Name(Pool(port).config).read()
        nursery.cancel_scope.cancel()


def answered(
    query: dns.message.Message,
    code: dns.rcode.Rcode = dns.rcode.NOERROR,
    *,
    is_primary: bool = True,
    is_signed: bool = True,
) -> bytes:
    """Return an answer without records, as it goes over TCP."""
    answer = dns.message.make_response(query)
    answer.set_rcode(code)
    answer.flags |= dns.flags.AA if is_primary else 0
    if not is_signed:
        answer.tsig = None
        answer.keyring = None
    wire = answer.to_wire()
    return len(wire).to_bytes(2) + wire


async def test_a_server_that_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for it is bounded."""
    monkeypatch.setattr("fanout.adjunct.gateway.name_server.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DnsUnreachable, match=f":{port} did not answer in 0.2 seconds"):
            await Name(Pool(port).config).read()
