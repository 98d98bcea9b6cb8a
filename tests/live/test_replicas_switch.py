"""A primary is replaced: by whom it is written to, who is waited for, and who must stop."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import attrs
import pytest
import redis
from sqlalchemy import text

from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.errors import (
    LeaseLost,
    PrimaryHeld,
    SwitchTimeout,
    TopologyRefused,
    TopologyUnknown,
)
from fanout.adjunct.replicas.records import ROUTER, RouterRecord
from fanout.adjunct.replicas.session import RoutedSession
from fanout.adjunct.replicas.topology import SETTLE_SECONDS
from tests.live.conftest import Fleet, command
from tests.live.mariadb import servers
from tests.live.shop import Item, Shop, add, names, promote, readers, shop, until, writes

__all__ = ["servers", "shop"]

pytestmark = pytest.mark.live


@contextmanager
def thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run something beside the block, which ends in it. What it raises fails the test."""
    running = threading.Thread(target=work)
    running.start()
    try:
        yield running
    finally:
        running.join()


def where(session: RoutedSession) -> int:
    """Return the port of the primary that the session's transaction writes to."""
    port: int = session.execute(text("SELECT @@port")).scalar_one()
    return port


def ghost(fleet: Fleet, lease_seconds: float, seen: int = 1) -> None:
    """Have discovery know a process that has crashed: it will never let go of anything."""
    record = RouterRecord(
        cluster="default",
        router="ghost",
        version=1,
        lease_seconds=lease_seconds,
        seen={"shop": seen},
    )
    with redis.Redis.from_url(fleet.discovery[0]) as discovery:
        discovery.set(ROUTER.key("default", "ghost"), ROUTER.encode(record))
        discovery.sadd(ROUTER.index_key("default"), "ghost")


def test_a_replaced_primary_is_written_to_by_nobody(shop: Shop) -> None:
    """Two processes write all the time while the primary is replaced: nothing fails or is lost."""
    old, new, other = shop.servers
    written: list[tuple[int, str]] = []  # in the order of the commits
    committing = threading.Lock()
    stop = threading.Event()

    def write(database: Database, name: str) -> None:
        for number in count():
            if stop.is_set():
                return
            with RoutedSession(database) as session:
                session.add(Item(name=f"{name}-{number}"))
                port = where(session)
                with committing:
                    session.commit()
                    written.append((port, f"{name}-{number}"))

    def more() -> None:
        before = len(written)
        until(lambda: len(written) > before + 20)

    with (
        shop.process() as first,
        shop.process() as second,
        thread(lambda: write(first, "a")),
        thread(lambda: write(second, "b")),
    ):
        try:
            more()
            shop.hold()
            new.catch_up(old)
            promote(new, other)
            shop.set(1, (2,))
            more()
        finally:
            stop.set()
    ports = [port for port, _ in written]
    switched = ports.index(new.port)
    assert set(ports[:switched]) == {old.port}
    assert set(ports[switched:]) == {new.port}
    with shop.process() as database:
        position = add(database, "last")
        assert names(database, after=position) == {name for _, name in written} | {"last"}


def test_an_open_transaction_is_waited_for(shop: Shop) -> None:
    """It ends on the old primary; a write that begins meanwhile waits for the new one."""
    with shop.process() as first, shop.process() as second:
        session = RoutedSession(first)
        session.add(Item(name="begun"))
        assert where(session) == shop.port(0)
        version = shop.show().version
        with thread(shop.hold) as holding:
            until(lambda: second.statistics().primary == first.statistics().primary == "")
            until(lambda: sorted(shop.routers().values()) == [0, version + 1])
            assert holding.is_alive()
            session.commit()
        session.close()
        assert set(shop.routers().values()) == {version + 1}

        shop.servers[1].catch_up(shop.servers[0])
        promote(shop.servers[1], shop.servers[2])
        with thread(lambda: add(second, "meanwhile")) as adding:
            assert names(first) == {"begun"}  # reads go on
            assert adding.is_alive()
            shop.set(1, (2,))
        assert shop.servers[1].run("SELECT name FROM shop.item") == [("begun",), ("meanwhile",)]
        assert shop.servers[0].run("SELECT name FROM shop.item") == [("begun",)]
        until(lambda: not shop.servers[0].connections())


def test_who_does_not_let_go_stops_the_switch(shop: Shop) -> None:
    """The old primary stays, and the message says who it was; by force it does not matter."""
    with shop.process() as database:
        with RoutedSession(database) as session:
            session.add(Item(name="long"))
            assert where(session) == shop.port(0)
            (router,) = shop.routers()
            with pytest.raises(SwitchTimeout, match=router) as late:
                shop.set(1, (2,), wait_seconds=0.5)
            assert late.value.code == "SWITCH_TIMEOUT"
            session.commit()
        add(database, "on the old one")

        pool = database.writer().pool  # else it might be the garbage collector that closes it
        with RoutedSession(database) as session:
            session.add(Item(name="longer"))
            assert where(session) == shop.port(0)
            version = shop.set(1, (2,), wait_seconds=0.5, force=True)
            until(lambda: database.statistics().version == version)
            with RoutedSession(database) as another:
                assert where(another) == shop.port(1)
            until(lambda: database.writer().pool is not pool)
        until(lambda: not shop.servers[0].connections())


def test_while_it_is_held_a_write_waits_for_so_long_and_then_fails(shop: Shop) -> None:
    """With a clear error; and once there is a primary again all is well."""
    with shop.process(hold_wait_seconds=0.3) as database:
        shop.hold()
        until(lambda: database.statistics().primary == "")
        with pytest.raises(
            PrimaryHeld, match="database shop: its primary is being replaced"
        ) as held:
            add(database, "refused")
        assert held.value.code == "PRIMARY_HELD"
        shop.set(0, (1, 2))
        until(lambda: database.statistics().primary)
        add(database, "taken")
        assert shop.servers[0].run("SELECT name FROM shop.item") == [("taken",)]


def test_a_process_that_crashed_is_waited_for_until_its_lease_is_over(
    shop: Shop, fleet: Fleet
) -> None:
    """By the clock of whoever waits: its record may stay in discovery for ever."""
    ghost(fleet, lease_seconds=300)
    with pytest.raises(SwitchTimeout, match="ghost"):
        shop.set(1, (2,), wait_seconds=1)
    assert shop.show().primary == shop.servers[0].address
    ghost(fleet, lease_seconds=1)
    shop.set(1, (2,))
    assert shop.show().primary == shop.servers[1].address


def test_of_two_who_change_a_topology_the_first_wins(shop: Shop, fleet: Fleet) -> None:
    """The other one learns it, and takes nothing back."""
    ghost(fleet, lease_seconds=300)
    failures: list[TopologyRefused] = []

    def lose() -> None:
        with pytest.raises(TopologyRefused, match="somebody else") as refused:
            shop.set(1, (2,), wait_seconds=2)
        failures.append(refused.value)

    with thread(lose):
        until(lambda: shop.show().primary == "")
        shop.set(2, (1,), wait_seconds=0.1, force=True)
    assert [failure.code for failure in failures] == ["TOPOLOGY_REFUSED"]
    assert shop.show().primary == shop.servers[2].address


def test_without_discovery_writes_end_with_the_lease(shop: Shop, fleet: Fleet) -> None:
    """Reads go on for good; writes go on when discovery is back, though it forgot everything."""
    before = shop.show().version
    with (
        shop.process(lease_seconds=2) as database,
        shop.process(lease_seconds=2, write_without_lease=True) as careless,
    ):
        shop.discovery.send_signal(signal.SIGSTOP)
        try:
            lose_lease(shop, database, careless)
        finally:
            shop.discovery.send_signal(signal.SIGCONT)
        with redis.Redis.from_url(fleet.discovery[0]) as discovery:
            discovery.flushall()
        until(lambda: writes(database))
        assert readers(database) <= {shop.port(1), shop.port(2)}

        version = shop.set(1, (2,), settle_seconds=SETTLE_SECONDS)
        assert version > before
        until(lambda: database.statistics().primary == shop.servers[1].address)


def lose_lease(shop: Shop, database: Database, careless: Database) -> None:
    """See what becomes of a transaction that is open when the lease runs out."""
    with RoutedSession(database) as session:
        session.add(Item(name="too late"))
        session.flush()
        until(lambda: not writes(database))
        with pytest.raises(LeaseLost, match="discovery has not heard of this process") as lost:
            session.commit()
        assert lost.value.code == "LEASE_LOST"
        session.rollback()
    shop.servers[1].catch_up(shop.servers[0])
    shop.servers[2].catch_up(shop.servers[0])
    assert "too late" not in names(database)
    assert writes(careless)


def test_a_discovery_that_is_not_whole_stops_the_switch(shop: Shop, fleet: Fleet) -> None:
    """Processes that only reach the missing part would not follow; who knows better leaves it out."""
    whole = Shop.told_by(shop.servers, fleet, timeout_seconds=2.0)
    whole.set(0, (1, 2))
    whole.discovery.kill()
    whole.discovery.wait()
    with pytest.raises(TopologyRefused, match=fleet.discovery[1].removeprefix("redis://")):
        whole.set(1, (2,))
    with pytest.raises(TopologyRefused, match="cannot be reached in whole"):
        whole.set(0, (1,))
    assert shop.show().primary == shop.servers[0].address
    shop.set(1, (2,))
    assert shop.show().primary == shop.servers[1].address


def test_a_topology_that_others_are_past_is_not_adopted(shop: Shop, fleet: Fleet) -> None:
    """A discovery that was restored from an old dump would have it write to an old primary."""
    seen = shop.show().version + 99
    ghost(fleet, lease_seconds=300, seen=seen)
    with shop.open("shop") as databases:
        with pytest.raises(TopologyUnknown):
            add(databases["shop"], "lost")
        assert shop.set(1, (2,), wait_seconds=0.1, force=True) > seen
        until(lambda: databases["shop"].statistics().primary == shop.servers[1].address)


def test_who_ends_the_command_gets_the_old_primary_back(shop: Shop, fleet: Fleet) -> None:
    """Otherwise nobody could write until somebody notices."""
    ghost(fleet, lease_seconds=300)
    told = ("--discovery", fleet.discovery[0])
    # A shell has its background jobs ignore SIGINT, and so what they start: these tests, perhaps.
    heard = ("env", "--default-signal=INT")
    for number in (signal.SIGINT, signal.SIGTERM):
        hold = fleet.start(*heard, command("fanout-sidecar"), "replicas", "hold", "shop", *told)
        until(lambda: shop.show().primary == "")
        assert hold.stop(number) == 130
        assert shop.show().primary == shop.servers[0].address

    show = fleet.start(command("fanout-sidecar"), "replicas", "show", "shop", "--json", *told)
    assert show.says(b"}\n}\n")
    assert json.loads(show.said) == {**attrs.asdict(shop.show()), "routers": shop.routers()}
