"""Routing over a real MariaDB primary with two replicas."""

import signal
import threading
import traceback

import attrs
import pytest
import redis
from sqlalchemy import Engine, delete, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from fanout.adjunct.replicas.databases import Databases
from fanout.adjunct.replicas.errors import (
    DatabaseDown,
    DatabaseUnknown,
    ReadOnly,
    TopologyUnknown,
)
from fanout.adjunct.replicas.session import RoutedSession
from fanout.config import FleetConfig
from fanout.errors import ConfigError
from fanout.wire.records import NUMBERS_MAX
from tests.live.conftest import Fleet
from tests.live.mariadb import PASSWORD, servers
from tests.live.shop import (
    LIMIT_SECONDS,
    QUICK,
    URL,
    Item,
    Shop,
    add,
    asked,
    healthy,
    names,
    readers,
    shop,
    until,
    writes,
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


def test_a_replica_that_lags_is_left_out_until_it_has_caught_up(shop: Shop) -> None:
    """Lag is measured even where MariaDB itself says nothing of it."""
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
    with shop.process(measure_timeout_seconds=1.0) as database:
        shop.servers[1].stop()
        until(lambda: not healthy(database, shop.servers[1]))
        assert readers(database) == {shop.port(2)}
        shop.servers[2].signal(signal.SIGSTOP)
        until(lambda: not healthy(database, shop.servers[2]))
        assert readers(database) == {shop.port(0)}

        shop.servers[2].signal(signal.SIGCONT)
        shop.servers[1].start()
        shop.servers[1].run("START SLAVE")
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})


def test_one_failed_read_takes_the_replica_out(shop: Shop) -> None:
    """Before the next measurement, and with a clear error."""
    with shop.process(measure_interval_seconds=LIMIT_SECONDS, lag_seconds_max=99.0) as database:
        shop.servers[1].stop()
        failures = []
        for _ in range(6):
            try:
                assert asked(database) == shop.port(2)
            except DatabaseDown as error:
                failures.append(str(error))
        assert len(failures) == 1
        assert shop.servers[1].address in failures[0]
        assert PASSWORD not in failures[0]


def test_a_primary_that_is_down_is_a_clear_error_and_reads_go_on(shop: Shop) -> None:
    """Also for a process that starts only then."""
    with shop.process() as database:
        add(database, "kept")
        for replica in shop.servers[1:]:
            replica.catch_up(shop.servers[0])
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
        shop.servers[0].stop()
        with pytest.raises(DatabaseDown, match=shop.servers[0].address) as down:
            add(database, "refused")
        assert down.value.code == "DATABASE_DOWN"
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
        until(lambda: not any(healthy(database, replica) for replica in shop.servers[1:]))
        assert readers(database) == {shop.port(0)}
        refuses_writes(database.reader())


def refuses_writes(engine: Engine) -> None:
    """Try to write where one only reads."""
    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match="READ ONLY trans"):
        connection.execute(text("INSERT INTO item (name) VALUES ('x')"))


def test_each_service_has_databases_of_its_own(shop: Shop) -> None:
    """Side by side; what is wrong with one does not touch the others."""
    shop.set(2, (0,), name="stock")
    with shop.open("shop", "stock", "archive") as databases:
        assert asked(databases["stock"], read_only=True) in (shop.port(0), shop.port(2))
        with RoutedSession(databases["stock"]) as session:
            assert session.execute(text("SELECT @@port")).scalar_one() == shop.port(2)
        add(databases["shop"], "here")

        with pytest.raises(TopologyUnknown, match="database archive") as no_topology:
            add(databases["archive"], "nowhere")
        assert no_topology.value.code == "TOPOLOGY_UNKNOWN"
        with pytest.raises(
            DatabaseUnknown, match="'customers'; known: shop, stock, archive"
        ) as none:
            databases["customers"]
        assert none.value.code == "DATABASE_UNKNOWN"

        shop.set(0, (), name="archive")
        until(lambda: databases["archive"].statistics().version)
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
                with pytest.raises(DatabaseDown, match="Access denied") as error:
                    work()
                said.append("".join(traceback.format_exception(error.value)))
            said += [repr(database), repr(refused["shop"]), str(database.statistics())]
            said += [str(database.writer()), repr(database.reader().url)]
            said.append(str(shop.show()))
            shop.servers[0].stop()
            with pytest.raises(DatabaseDown) as error:
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
        ("sqlite:///x", {}, "known are mysql.pymysql"),
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
    """They would skip the record: nobody would wait for this process, or know the database."""
    many = {f"shop{n}": URL for n in range(NUMBERS_MAX + 1)}
    for urls in ({"a/b": URL}, {"": URL}, many):
        with pytest.raises(ConfigError):
            Databases(shop.fleet, urls)
    for name, weights in (("a/b", {}), ("shop", {"h": 1}), ("shop", {"h:1": 1001})):
        with pytest.raises(ConfigError, match="is not allowed"):
            shop.set(0, name=name, weights=weights)
    with pytest.raises(ConfigError, match="named twice"):
        shop.set(0, (0,))


def test_a_process_starts_without_discovery_and_learns_later(shop: Shop) -> None:
    """It is no reason not to start, and every use says what is missing."""
    shop.discovery.send_signal(signal.SIGSTOP)
    fleet = attrs.evolve(shop.fleet, timeout_seconds=0.3)
    try:
        with Databases(fleet, {"shop": URL}, config=QUICK) as databases:
            with pytest.raises(TopologyUnknown):
                asked(databases["shop"])
            shop.discovery.send_signal(signal.SIGCONT)
            until(lambda: databases["shop"].statistics().version)
            until(lambda: writes(databases["shop"]))
    finally:
        shop.discovery.send_signal(signal.SIGCONT)


def test_a_session_that_only_reads_does_not_write(shop: Shop) -> None:
    """Texts and explicit transactions go to replicas too; a write is refused before it is sent."""
    with shop.process() as database, RoutedSession(database, read_only=True) as session:
        with session.begin():
            assert session.execute(text("SELECT @@port")).scalar_one() != shop.port(0)
        session.add(Item(name="x"))
        with pytest.raises(ReadOnly) as refused:
            session.commit()
        assert refused.value.code == "READ_ONLY"
        session.rollback()
        with pytest.raises(ReadOnly):
            session.execute(delete(Item))


def connections(shop: Shop) -> int:
    """Return how many the processes have to the servers."""
    return sum(server.connections() for server in shop.servers)


def test_connections_and_threads_end_with_the_databases(shop: Shop) -> None:
    """However often they are opened; and each says goodbye to discovery."""
    for _ in range(3):
        with shop.process() as database:
            add(database, "x")
            assert connections(shop)
            late = database.reader().connect()
            pool = late.engine.pool  # else it might be the garbage collector that closes it
            assert len(shop.routers()) == 1
        assert shop.routers() == {}
        assert "fanout-databases" not in {thread.name for thread in threading.enumerate()}
        late.close()
        until(lambda: not connections(shop))
        del pool
