"""A primary is replaced: which clients still write to it, and the outcome of writes meanwhile."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import attrs
import pytest
import redis
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from fanout.adjunct.replicas import Database, RoutedSession
from fanout.adjunct.topology import DATABASE, DatabaseError
from tests.support.live.fleet import Fleet, command
from tests.support.live.mariadb import servers
from tests.support.live.shop import Item, Shop, add, names, port_of, promote, readers, shop, until

__all__ = ["servers", "shop"]

pytestmark = pytest.mark.live

READ_ONLY = 1290
"""MariaDB's error for a write where it takes none."""


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


def primary_of(database: Database) -> int:
    """Return the port of the primary that a process knows."""
    assert database.topology is not None
    return port_of(database.topology.primary)


def test_a_replaced_primary_is_written_to_by_nobody(shop: Shop) -> None:
    """Two processes write all the time while the primary is replaced: what is committed is kept.

    A transaction that is open when the old primary becomes read-only fails; those that begin
    later wait. One process has lost discovery: it writes nowhere until it has it again.
    """
    old, new, other = shop.servers
    written: list[tuple[int, str]] = []  # in the order of the commits
    failures: list[OperationalError] = []
    committing = threading.Lock()
    stop = threading.Event()

    def write(database: Database, name: str) -> None:
        for number in count():
            if stop.is_set():
                return
            try:
                with RoutedSession(database) as session:
                    session.add(Item(name=f"{name}-{number}"))
                    port = where(session)
                    with committing:
                        session.commit()
                        written.append((port, f"{name}-{number}"))
            except OperationalError as error:
                failures.append(error)

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
            old.run("SET GLOBAL read_only=1")
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
    assert len(failures) <= 2  # what each had open
    assert {failure.orig.args[0] for failure in failures if failure.orig} <= {READ_ONLY}
    with shop.process() as database:
        position = add(database, "last")
        assert names(database, after=position) == {name for _, name in written} | {"last"}


def test_while_the_primary_is_read_only_writes_wait(shop: Shop) -> None:
    """Reads go on; with the new primary the write goes on there, with connections of before."""
    old, new, other = shop.servers
    with shop.process() as database:
        add(database, "before")
        old.run("SET GLOBAL read_only=1")
        with thread(lambda: add(database, "meanwhile")) as adding:
            adding.join(0.5)
            assert adding.is_alive()
            assert names(database) == {"before"}
            new.catch_up(old)
            promote(new, other)
            shop.set(1, (2,))
        assert new.run("SELECT name FROM shop.item") == [("before",), ("meanwhile",)]
        assert old.run("SELECT name FROM shop.item") == [("before",)]
        with RoutedSession(database) as session:
            assert where(session) == new.port


def test_a_primary_that_takes_writes_again_gets_them(shop: Shop) -> None:
    """The switch was called off."""
    with shop.process() as database:
        shop.servers[0].run("SET GLOBAL read_only=1")
        with thread(lambda: add(database, "kept")) as adding:
            adding.join(0.5)
            assert adding.is_alive()
            shop.servers[0].run("SET GLOBAL read_only=0")
        assert shop.servers[0].run("SELECT name FROM shop.item") == [("kept",)]


def test_a_primary_that_stays_read_only_is_a_clear_error(shop: Shop) -> None:
    """After so long as was said; and so is a replica that was named the primary by mistake."""
    with shop.process(switch_wait_seconds=0.3) as database:
        shop.servers[0].run("SET GLOBAL read_only=1")
        for _ in range(2):
            with pytest.raises(DatabaseError, match="replicas set shop") as refused:
                add(database, "refused")
            assert refused.value.code == "PRIMARY_READ_ONLY"
            assert str(shop.port(0)) in str(refused.value)
        shop.servers[0].run("SET GLOBAL read_only=0")
        add(database, "taken")
        shop.set(1, (2,))
        until(lambda: primary_of(database) == shop.port(1))
        with pytest.raises(DatabaseError, match=shop.servers[1].address):
            add(database, "refused")
        assert shop.servers[0].run("SELECT name FROM shop.item") == [("taken",)]


def test_connections_to_a_former_primary_are_not_used_again(shop: Shop) -> None:
    """Also where it still takes writes, as it should not."""
    with shop.process() as database:
        add(database, "before")
        shop.servers[1].lead()
        shop.set(1, (2,))
        until(lambda: primary_of(database) == shop.port(1))
        with RoutedSession(database) as session:
            assert where(session) == shop.port(1)


def test_a_topology_of_a_clock_that_was_ahead_is_replaced(shop: Shop, fleet: Fleet) -> None:
    """The highest version counts, so the next one is above it."""
    ahead = attrs.evolve(shop.show(), version=2**60)
    with redis.Redis.from_url(fleet.discovery[0]) as discovery:
        discovery.set(DATABASE.key("default", "shop"), DATABASE.encode(ahead))
    with shop.process() as database:
        assert shop.set(0, (2,)) == 2**60 + 1
        until(lambda: readers(database) == {shop.port(2)})


def test_a_process_without_discovery_goes_on_and_writes_to_no_former_primary(
    shop: Shop, fleet: Fleet
) -> None:
    """It follows when discovery is back, though it forgot everything meanwhile."""
    old, new, other = shop.servers
    with shop.process(switch_wait_seconds=0.3) as database:
        shop.discovery.send_signal(signal.SIGSTOP)
        try:
            add(database, "alone")
            assert readers(database) <= {shop.port(1), shop.port(2)}
            old.run("SET GLOBAL read_only=1")
            new.catch_up(old)
            promote(new, other)
            with pytest.raises(DatabaseError) as refused:
                add(database, "lost")
            assert refused.value.code == "PRIMARY_READ_ONLY"
        finally:
            shop.discovery.send_signal(signal.SIGCONT)
        with redis.Redis.from_url(fleet.discovery[0]) as discovery:
            discovery.flushall()
        before = database.topology
        assert before is not None
        assert shop.set(1, (2,)) > before.version
        until(lambda: primary_of(database) == new.port)
        add(database, "found")
        assert new.run("SELECT name FROM shop.item") == [("alone",), ("found",)]


def test_a_discovery_that_is_not_whole_is_told(shop: Shop, fleet: Fleet) -> None:
    """Processes that reach the rest follow; it is repeated when the missing instance is back."""
    whole = Shop.told_by(shop.servers, fleet, timeout_seconds=2.0)
    whole.set(0, (1, 2))
    whole.discovery.kill()
    whole.discovery.wait()
    with pytest.raises(DatabaseError, match=fleet.discovery[1].removeprefix("redis://")) as partial:
        whole.set(1, (2,))
    assert partial.value.code == "TOPOLOGY_PARTIAL"
    assert shop.show().primary == shop.servers[1].address


def test_the_commands_tell_and_show(shop: Shop, fleet: Fleet) -> None:
    """As the library does; a running process follows."""
    told = ("--discovery", fleet.discovery[0])
    with shop.process() as database:
        wanted = ("--primary", shop.servers[0].address, "--replica", f"{shop.servers[2].address}=3")
        change = (command("fanout-sidecar"), "replicas", "set", "shop", *wanted, *told)
        assert fleet.start(*change).says(f"replica  {shop.servers[2].address} weight 3\n".encode())
        until(lambda: readers(database) == {shop.port(2)})
        assert database.topology == shop.show()
        show = fleet.start(command("fanout-sidecar"), "replicas", "show", "shop", "--json", *told)
        assert show.says(f'"{shop.servers[2].address}": 3\n'.encode())


def test_reads_follow_a_promoted_replica(shop: Shop) -> None:
    """Reads do not wait for writes that were lost with the former primary."""
    old, new, other = shop.servers
    with shop.process() as database:
        other.run("STOP SLAVE")
        new.catch_up(old)
        add(database, "lost with the old one")
        old.stop()
        new.lead()
        other.follow(new)
        shop.set(1, (2,))
        until(lambda: readers(database) == {other.port})
        with RoutedSession(database) as session:
            assert session.scalar(select(text("@@port"))) == other.port
