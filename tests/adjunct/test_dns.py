"""A name in DNS that follows a pool, at a real name server."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fanout.adjunct.dns import send, wanted
from fanout.adjunct.gateway import INSTANCES, InstanceRecord
from fanout.values.records import NodeState
from tests.support.adjunct.dns import Pool, addresses, leads_to
from tests.support.adjunct.gateway import instance
from tests.support.adjunct.knot import ZONE, Knot

pytestmark = pytest.mark.live


# What the name should lead to.

ADDRESSES = st.sets(st.sampled_from([f"192.0.2.{n}" for n in range(4)] + ["2001:db8::1"]))
RECORDS = st.lists(
    st.builds(
        lambda name, state, ips, pool, version: instance(
            name, state, ips=tuple(sorted(ips)), pool=pool, version=version
        ),
        st.sampled_from("abcdef"), st.sampled_from(NodeState), ADDRESSES,
        st.sampled_from(["web", "web", "other"]), st.integers(1, 3),
    ),
    max_size=8,
)  # fmt: skip


@given(present=ADDRESSES, records=RECORDS, is_sure=st.booleans())
async def test_what_a_name_should_lead_to(
    present: set[str],
    records: list[InstanceRecord],
    is_sure: bool,  # noqa: FBT001
) -> None:
    """Every active address, none that is known to be inactive; never an empty answer in place of the last one."""
    pool = Pool(53, grace_seconds=1e-9 if is_sure else 3600)
    for each in records:
        pool.list(each)
    await trio.sleep(0.001)
    addresses, others = wanted(pool.config, pool.watch)
    after = addresses if others is None else (present - others) | addresses

    ours = [each for each in pool.watch.members(INSTANCES).values() if each.pool == "web"]
    left = [each for each in pool.watch.absent(INSTANCES) if each.pool == "web"]
    active = {ip for each in ours if each.state is NodeState.ACTIVE for ip in each.ips}
    refused = {ip for each in (*ours, *left) for ip in each.ips} - active
    assert after or not present
    if active:
        assert after == (active if is_sure else active | (present - refused))
    else:
        assert after == present


async def test_silence_is_no_goodbye_yet(autojump_clock: MockClock) -> None:
    """An instance that expires right after an outage is removed only after the grace period."""
    pool = Pool(53, grace_seconds=60)
    pool.list(
        instance("a1", ips=addresses("a1"), lease_seconds=5.0),
        instance("a2", ips=addresses("a2"), lease_seconds=500.0),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch.run)
        await trio.sleep(10)
        assert wanted(pool.config, pool.watch) == ({"192.0.2.2"}, set())
        await trio.sleep(60)
        assert wanted(pool.config, pool.watch) == ({"192.0.2.2"}, None)
        nursery.cancel_scope.cancel()


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
        await pool.send()
        assert await knot.look_up("web") == (v4, 30)
        assert await knot.look_up("web", "AAAA") == (v6, 30 if v6 else 0)


async def test_nothing_changes_that_is_so_already(knot: Knot) -> None:
    """The zone's serial stays, so that secondaries are left alone; however an address is written."""
    pool = Pool(knot.port)
    mapped = instance("a", ips=("::ffff:192.0.2.9", "2001:DB8:0::1"))
    pool.say(a1="active", b2="active")
    pool.list(mapped)
    await pool.send()
    before = await knot.serial()
    pool.say(a1="active", b2="active", a3="joining")
    await pool.send()
    other = Pool(knot.port)
    other.say(a3="joining", b2="active", a1="active")
    other.list(mapped)
    await other.send()
    unsure = Pool(knot.port, grace_seconds=3600)
    unsure.say(a1="active", a3="joining")
    await unsure.send()

    assert await knot.serial() == before
    assert len((await knot.look_up("web", "AAAA"))[0]) == 3


async def test_updates_are_sent_for_news_and_now_and_then(knot: Knot) -> None:
    """A heartbeat is no news."""
    pool = Pool(knot.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.keep)
        for _ in range(50):
            pool.say(a1="active")
            await trio.sleep(0.02)
        await leads_to(knot, "192.0.2.1")
        assert knot.log.count("DDNS, processing") == 1
        pool.say(a2="active")
        await leads_to(knot, "192.0.2.1", "192.0.2.2")
        nursery.cancel_scope.cancel()

    often = Pool(knot.port, check_interval_seconds=0.05)
    often.say(a1="active")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(often.keep)
        await leads_to(knot, "192.0.2.1")
        await send(often.config, {"192.0.2.66"}, set())
        await leads_to(knot, "192.0.2.1")
        nursery.cancel_scope.cancel()


async def test_what_others_changed_is_put_right(knot: Knot) -> None:
    """Addresses and times to live; other names are none of its business."""
    pool = Pool(knot.port)
    pool.say(a1="active")
    await send(pool.config, {"192.0.2.66", "2001:db8::66"}, set())
    await send(Pool(knot.port, name=f"other.{ZONE}").config, {"192.0.2.77"}, set())
    await pool.send()
    assert await knot.look_up("web") == ({"192.0.2.1"}, 30)
    assert await knot.look_up("web", "AAAA") == (set(), 0)

    other = Pool(knot.port, ttl_seconds=5)
    other.say(a1="active")
    await other.send()
    assert await knot.look_up("web") == ({"192.0.2.1"}, 5)
    assert await knot.look_up("other") == ({"192.0.2.77"}, 30)
    assert await knot.look_up("ns") == ({"127.0.0.1"}, 3600)


async def test_the_last_addresses_stay(knot: Knot) -> None:
    """Whether all instances left, drain, or were never there; and while nothing can be read."""
    pool = Pool(knot.port, check_interval_seconds=0.05)
    pool.say(a1="active", a2="active")
    await pool.send()
    both = ({"192.0.2.1", "192.0.2.2"}, 30)
    pool.say(a1="draining", a2="gone")
    await pool.send()
    assert await knot.look_up("web") == both

    empty = Pool(knot.port)
    empty.list()
    await empty.send()
    assert await knot.look_up("web") == both

    async with trio.open_nursery() as nursery:
        pool.say(a3="active")
        pool.watch.on_unreachable(0)
        nursery.start_soon(pool.keep)
        await trio.sleep(0.5)
        assert (await knot.look_up("web"), pool.said) == (both, [])
        pool.list()
        await leads_to(knot, "192.0.2.3")
        nursery.cancel_scope.cancel()


async def test_after_an_outage_only_those_who_say_so_are_removed(knot: Knot) -> None:
    """After an outage discovery may lack instances for a while; their addresses stay."""
    pool = Pool(knot.port)
    pool.say(a1="active", a2="active", a3="active")
    await pool.send()
    restarted = Pool(knot.port, grace_seconds=1.0)
    restarted.say(a2="active", a3="draining", a4="active")
    restarted.list(instance("a1", NodeState.GONE, pool="other", ips=addresses("a1")))
    restarted.list(instance("a5", NodeState.GONE, ips=addresses("a2")))  # a2 is here
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restarted.keep)
        await leads_to(knot, "192.0.2.1", "192.0.2.2", "192.0.2.4")
        await leads_to(knot, "192.0.2.2", "192.0.2.4")
        nursery.cancel_scope.cancel()


async def test_several_updaters_do_no_harm(knot: Knot) -> None:
    """They change the name at the same time, over and over, and it ends as all want it."""
    pools = [Pool(knot.port) for _ in range(3)]
    for number in range(1, 9):
        states = {f"a{n}": "active" for n in (number, number + 1)}
        gone = {f"a{number - 1}": "gone"} if number > 1 else {}
        async with trio.open_nursery() as nursery:
            for pool in pools:
                pool.say(**states, **gone)
                nursery.start_soon(pool.send)
        both = {f"192.0.2.{number}", f"192.0.2.{number + 1}"}
        assert await knot.look_up("web") == (both, 30)
