"""Routing over a real MariaDB primary with two replicas."""

import signal
import threading
import traceback

import attrs
import pytest
import redis
from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from structlog.testing import capture_logs

from fanout.adjunct.replicas import DatabaseError, Databases, RoutedSession
from fanout.config import FleetConfig
from fanout.errors import ConfigError
from tests.support.live.fleet import Fleet
from tests.support.live.mariadb import PASSWORD, servers
from tests.support.live.shop import (
    LIMIT_SECONDS,
    QUICK,
    URL,
    Item,
    Shop,
    add,
    asked,
    names,
    readers,
    shop,
    until,
)

__all__ = ["servers", "shop"]

pytestmark = pytest.mark.live


def test_writes_go_to_the_primary_and_reads_round_over_the_replicas(shop: Shop) -> None:
    """By the kind of statement, and by what the transaction did before."""
    with shop.process() as database, RoutedSession(database) as session:
        here = select(text("@@port"))
        first = session.scalar(here)
        assert first in (shop.port(1), shop.port(2))
        assert session.scalar(here) == first  # one replica for one transaction
        assert session.scalar(here.with_for_update()) == shop.port(0)
        assert session.scalar(here) == shop.port(0)  # it may have written
        session.rollback()
        assert session.scalar(here) != shop.port(0)
        session.rollback()
        with session.begin():
            assert session.scalar(here) == shop.port(0)
        session.add(Item(name="flushed"))
        session.flush()
        assert session.scalar(here) == shop.port(0)
        assert session.scalar(select(func.count()).select_from(Item)) == 1
        session.rollback()
        assert session.execute(text("SELECT @@port")).scalar_one() == shop.port(0)


def test_a_session_reads_what_it_wrote(shop: Shop) -> None:
    """From the primary until a replica has it, then from that replica; also another session."""
    with shop.process() as database:
        for replica in shop.servers[1:]:
            replica.run("STOP SLAVE SQL_THREAD")
        with RoutedSession(database) as session:
            session.add(Item(name="mine"))
            session.commit()
            assert set(session.scalars(select(Item.name))) == {"mine"}
            position = session.position
            assert session.scalar(select(text("@@port"))) == shop.port(0)
        assert names(database, after=position) == {"mine"}

        shop.servers[1].run("START SLAVE SQL_THREAD")
        until(lambda: asked(database, after=position) == shop.port(1))
        assert {asked(database, after=position) for _ in range(4)} == {shop.port(1)}
        assert names(database, after=position) == {"mine"}


def test_a_transaction_that_wrote_nothing_forgets_nothing(shop: Shop) -> None:
    """What its connection wrote before is older than what the session has to find."""
    with shop.process() as database, shop.process() as another:
        add(another, "first")
        for replica in shop.servers[1:]:
            replica.catch_up(shop.servers[0])
            replica.run("STOP SLAVE SQL_THREAD")
        position = add(database, "mine")
        with RoutedSession(another, after=position) as session:
            with session.begin():
                assert session.scalar(select(text("@@port"))) == shop.port(0)
            assert session.position == position
            assert set(session.scalars(select(Item.name))) == {"first", "mine"}
            session.rollback()
            with session.begin(), session.begin_nested():
                session.scalar(select(text("1")))
            assert session.position == position


def test_a_replica_that_is_named_no_more_is_left(shop: Shop) -> None:
    """With all connections to it, those that are in use by then too."""
    with shop.process() as database:
        late = [database.reader().connect() for _ in range(2)]
        pools = [each.engine.pool for each in late]
        shop.set(0, (2,))
        until(lambda: readers(database) == {shop.port(2)})
        assert shop.servers[1].connections()
        for each in late:
            each.close()
        until(lambda: not shop.servers[1].connections())
        del pools


def test_a_replica_that_lags_is_left_out_until_it_has_caught_up(shop: Shop) -> None:
    """Lag is measured even where MariaDB itself does not report it."""
    with shop.process() as database:
        shop.servers[2].run("STOP SLAVE SQL_THREAD")
        add(database, "late")
        until(lambda: readers(database) == {shop.port(1)})
        shop.servers[1].run("STOP SLAVE IO_THREAD")
        add(database, "later")
        until(lambda: readers(database) == {shop.port(0)})
        assert names(database) == {"late", "later"}

        shop.servers[2].run("START SLAVE SQL_THREAD")
        until(lambda: readers(database) == {shop.port(2)})
        shop.servers[1].run("START SLAVE IO_THREAD")
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})


def test_replicas_that_are_gone_are_left_out_and_come_back(shop: Shop) -> None:
    """One killed, the other one hanging: reads go to the primary, then back."""
    with shop.process() as database:
        shop.servers[1].stop()
        until(lambda: database.readable() == {shop.servers[2].address})
        assert readers(database) == {shop.port(2)}
        shop.servers[2].signal(signal.SIGSTOP)
        until(lambda: not database.readable())
        assert readers(database) == {shop.port(0)}

        shop.servers[2].signal(signal.SIGCONT)
        shop.servers[1].start()
        shop.servers[1].run("START SLAVE")
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})


def test_one_failed_read_takes_the_replica_out(shop: Shop) -> None:
    """Before the next measurement; a clear error, and the log names the server."""
    with (
        shop.process(measure_interval_seconds=LIMIT_SECONDS, lag_seconds_max=99.0) as database,
        capture_logs() as logged,
    ):
        shop.servers[1].stop()
        failures = []
        for _ in range(6):
            try:
                assert asked(database) == shop.port(2)
            except OperationalError as error:
                failures.append(str(error))
        assert len(failures) == 1
        assert "Can't connect to MySQL server" in failures[0]
    lost = [each["server"] for each in logged if each["event"] == "database_server_lost"]
    assert lost == [shop.servers[1].address]


def test_a_primary_that_is_down_is_a_clear_error_and_reads_go_on(shop: Shop) -> None:
    """Also for a process that starts only then."""
    with shop.process() as database:
        add(database, "kept")
        for replica in shop.servers[1:]:
            replica.catch_up(shop.servers[0])
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
        shop.servers[0].stop()
        with pytest.raises(OperationalError, match="Can't connect to MySQL server"):
            add(database, "refused")
        assert names(database) == {"kept"}
        with shop.process() as another:
            until(lambda: readers(another) == {shop.port(1), shop.port(2)})
            assert names(another) == {"kept"}


def test_connections_for_reading_do_not_write(shop: Shop) -> None:
    """On the replicas, and on the primary too when reads fall back to it."""
    with shop.process() as database:
        for replica in shop.servers[1:]:
            replica.run("SET GLOBAL read_only=0")
        refuses_writes(database.reader())
        for replica in shop.servers[1:]:
            replica.stop()
        until(lambda: not database.readable())
        assert readers(database) == {shop.port(0)}
        refuses_writes(database.reader())


def refuses_writes(engine: Engine) -> None:
    """Try to write where one only reads."""
    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match="READ ONLY trans"):
        connection.execute(text("INSERT INTO item (name) VALUES ('x')"))


def test_each_service_has_databases_of_its_own(shop: Shop) -> None:
    """Side by side; what is wrong with one does not touch the others."""
    shop.set(2, (0,), name="stock")
    shop.servers[2].run("SET GLOBAL read_only=0")
    with shop.open("shop", "stock", "archive") as databases:
        assert asked(databases["stock"], read_only=True) in (shop.port(0), shop.port(2))
        with RoutedSession(databases["stock"]) as session:
            assert session.execute(text("SELECT @@port")).scalar_one() == shop.port(2)
        add(databases["shop"], "here")

        for use in (asked, lambda archive: add(archive, "nowhere")):
            with pytest.raises(DatabaseError, match="database archive") as no_topology:
                use(databases["archive"])
            assert no_topology.value.code == "TOPOLOGY_UNKNOWN"
        with pytest.raises(DatabaseError, match="'customers'; known: shop, stock, archive") as none:
            databases["customers"]
        assert none.value.code == "DATABASE_UNKNOWN"

        shop.set(0, (), name="archive")
        until(lambda: databases["archive"].topology)
        add(databases["archive"], "there")


def test_no_password_is_told_to_anybody(shop: Shop, fleet: Fleet) -> None:
    """Not in what fails, what is logged, what is shown, or what stands in discovery."""
    wrong = URL.replace(PASSWORD, PASSWORD + "-wrong")
    said: list[str] = []
    with capture_logs() as logged:
        with (
            shop.process() as database,
            Databases(shop.fleet, {"shop": wrong}, config=QUICK) as refused,
        ):
            add(database, "x")
            for work in (lambda: add(refused["shop"], "x"), lambda: asked(refused["shop"])):
                with pytest.raises(OperationalError, match="Access denied") as error:
                    work()
                said.append("".join(traceback.format_exception(error.value)))
            said += [repr(database), repr(refused["shop"]), str(database.topology)]
            said += [str(database.writer()), repr(database.reader().url)]
            said.append(str(shop.show()))
            shop.servers[0].stop()
            with pytest.raises(OperationalError) as error:
                add(database, "x")
            said.append(str(error.value))
        with redis.Redis.from_url(fleet.discovery[0]) as discovery:
            for key in discovery.scan_iter():
                said.append(str(key) + str(discovery.dump(key)))
    with pytest.raises(ConfigError) as unreadable:
        Databases(shop.fleet, {"shop": f"mysql+pymysql:/shop:{PASSWORD}@h"})
    said += [str(unreadable.value), str(logged)]
    assert any(event["event"] == "database_server_lost" for event in logged)
    assert [text for text in said if PASSWORD in text] == []


@pytest.mark.parametrize(
    ("url", "options", "why"),
    [
        ("sqlite:///x", {}, "a driver for mysql, mariadb, postgresql"),
        ("mysql+mysqldb://h/x", {}, "MySQLdb"),
        ("mysql+pymysql://h/x", {"pool_sise": 3}, "pool_sise"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(url: str, options: dict[str, int], why: str) -> None:
    """With the name of the database, before any thread is started."""
    fleet = FleetConfig.from_mapping({"discovery": "redis://127.0.0.1:1"})
    with pytest.raises(ConfigError, match=f"database shop: .*{why}"):
        Databases(fleet, {"shop": url}, engine_options=options)


def test_what_others_could_not_read_is_refused(shop: Shop) -> None:
    """They would skip the record, and not wait for this process or not know the database."""
    for urls in ({"a/b": URL}, {"": URL}):
        with pytest.raises(ConfigError):
            Databases(shop.fleet, urls)
    refused: list[tuple[str, dict[str, int]]]
    refused = [("a/b", {}), ("shop", {"h": 1}), ("shop", {"h:1": 1001})]
    for name, weights in refused:
        with pytest.raises(ConfigError, match="invalid topology"):
            shop.set(0, name=name, weights=weights)
    with pytest.raises(ConfigError, match="given twice"):
        shop.set(0, (0,))


def test_a_process_starts_without_discovery_and_learns_later(shop: Shop) -> None:
    """It is no reason not to start, and every use says what is missing."""
    shop.discovery.send_signal(signal.SIGSTOP)
    fleet = attrs.evolve(shop.fleet, timeout_seconds=0.3)
    try:
        with Databases(fleet, {"shop": URL}, config=QUICK) as databases:
            with pytest.raises(DatabaseError) as unknown:
                asked(databases["shop"])
            assert unknown.value.code == "TOPOLOGY_UNKNOWN"
            shop.discovery.send_signal(signal.SIGCONT)
            until(lambda: databases["shop"].topology)
            add(databases["shop"], "taken")
    finally:
        shop.discovery.send_signal(signal.SIGCONT)


def test_a_session_that_only_reads_does_not_write(shop: Shop) -> None:
    """Texts and explicit transactions go to replicas too; there a write is refused."""
    with shop.process() as database, RoutedSession(database, read_only=True) as session:
        with session.begin():
            assert session.execute(text("SELECT @@port")).scalar_one() != shop.port(0)
        session.add(Item(name="x"))
        with pytest.raises(SQLAlchemyError, match=r"(?i)read.only"):
            session.commit()
        session.rollback()
        with pytest.raises(SQLAlchemyError, match=r"(?i)read.only"):
            session.execute(delete(Item))


def connections(shop: Shop) -> int:
    """Return how many the processes have to the servers."""
    return sum(server.connections() for server in shop.servers)


def test_connections_and_threads_end_with_the_databases(shop: Shop) -> None:
    """However often they are opened."""
    for _ in range(3):
        with shop.process() as database:
            add(database, "x")
            assert connections(shop)
            late = database.reader().connect()
            pool = late.engine.pool  # else it might be the garbage collector that closes it
        assert "fanout-databases" not in {thread.name for thread in threading.enumerate()}
        late.close()
        until(lambda: not connections(shop))
        del pool
