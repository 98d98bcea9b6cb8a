"""Routing over a real MariaDB primary with two replicas, told by a real discovery Redis."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from sqlalchemy import Engine, Select, String, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.databases import Databases
from fanout.adjunct.replicas.errors import (
    DatabaseDown,
    LeaseLost,
    PrimaryHeld,
    SwitchTimeout,
    TopologyRefused,
)
from fanout.adjunct.replicas.session import RoutedSession
from fanout.adjunct.replicas.topology import hold_topology, read_topology, set_topology
from fanout.config import DiscoveryAddress, FleetConfig
from tests.live.conftest import Fleet
from tests.live.mariadb import PASSWORD, MariaDB, mariadb_template, servers

__all__ = ["mariadb_template", "servers"]

pytestmark = pytest.mark.live

LIMIT_SECONDS = 30.0
URL = f"mysql+pymysql://shop:{PASSWORD}@ignored:1/shop"
QUICK = RoutingConfig(
    measure_interval_seconds=0.1, lag_seconds_max=0.4, lease_seconds=6.0, hold_wait_seconds=20.0
)


class Base(DeclarativeBase):
    """The models of a shop."""


class Item(Base):
    """Something to sell."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds that should soon."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.02)


@attrs.define
class Shop:
    """The servers of a database, discovery, and one process that routes."""

    servers: list[MariaDB]
    fleet: FleetConfig
    config: RoutingConfig = QUICK

    @contextmanager
    def open(self, **options: Any) -> Iterator[Database]:
        """A process that routes to the database, with its replicas in use."""
        config = attrs.evolve(self.config, **options)
        with Databases(self.fleet, {"shop": URL}, config=config) as databases:
            yield databases["shop"]

    def set(self, primary: int, replicas: tuple[int, ...], **options: Any) -> None:
        """Tell discovery who is who."""
        options = {"wait_seconds": LIMIT_SECONDS, **options}

        async def change() -> None:
            await set_topology(
                self.fleet,
                "shop",
                primary=self.servers[primary].address,
                replicas={self.servers[number].address: 1 for number in replicas},
                **options,
            )

        trio.run(change)

    def hold(self, **options: Any) -> None:
        """Take the primary away."""
        options = {"wait_seconds": LIMIT_SECONDS, **options}
        trio.run(lambda: hold_topology(self.fleet, "shop", **options))

    def port(self, number: int) -> int:
        """Return the port of a server."""
        return self.servers[number].port


@pytest.fixture
def shop(servers: list[MariaDB], fleet: Fleet) -> Shop:
    """A database whose topology discovery knows."""
    fleet.add_discovery()
    config = FleetConfig(discovery=tuple(map(DiscoveryAddress.parse, fleet.discovery)))
    shop = Shop(servers, config)
    shop.set(0, (1, 2))
    return shop


def asked(database: Database, statement: Select[Any] | None = None, **options: Any) -> int:
    """Return the port of the server that one read goes to."""
    with RoutedSession(database, **options) as session:
        port: int = session.execute(select(text("@@port"))).scalar_one()
    return port


def readers(database: Database, rounds: int = 6) -> set[int]:
    """Return the ports of the servers that some reads go to."""
    return {asked(database) for _ in range(rounds)}


def healthy(database: Database, server: MariaDB) -> bool:
    """Whether the last measurement of a replica succeeded."""
    (found,) = [r for r in database.statistics().replicas if r.endpoint == server.address]
    return found.healthy


def add(database: Database, name: str) -> str:
    """Write; return the position."""
    with RoutedSession(database) as session:
        session.add(Item(name=name))
        session.commit()
        return session.position


def names(database: Database, after: str = "") -> set[str]:
    """Read."""
    with RoutedSession(database, after=after) as session:
        return set(session.scalars(select(Item.name)))


def test_writes_go_to_the_primary_and_reads_round_over_the_replicas(shop: Shop) -> None:
    """By the kind of statement, and by what the transaction did before."""
    with shop.open() as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
        with RoutedSession(database) as session:
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
    with shop.open() as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
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
    with shop.open() as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
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
    with shop.open(measure_timeout_seconds=1.0) as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
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
    with shop.open(measure_interval_seconds=LIMIT_SECONDS, lag_seconds_max=99.0) as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
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
    with shop.open() as database:
        add(database, "kept")
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
        shop.servers[0].stop()
        with pytest.raises(DatabaseDown, match=shop.servers[0].address) as down:
            add(database, "refused")
        assert down.value.code == "DATABASE_DOWN"
        assert names(database) == {"kept"}
        with shop.open() as another:
            until(lambda: readers(another) == {shop.port(1), shop.port(2)})
            assert names(another) == {"kept"}


def test_connections_for_reading_do_not_write(shop: Shop) -> None:
    """On the replicas, and on the primary too when reads fall back to it."""
    with shop.open() as database:
        until(lambda: readers(database) == {shop.port(1), shop.port(2)})
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


def promote(new: MariaDB, *others: MariaDB) -> None:
    """Have a replica lead, and others follow it."""
    new.lead()
    for other in others:
        other.follow(new)


def test_a_replaced_primary_is_written_to_by_nobody(shop: Shop) -> None:
    """Two processes write all the time, in transactions, while the primary is replaced."""
    old, new, other = shop.servers
    committed: list[tuple[float, int, str]] = []
    stop = threading.Event()

    def write(database: Database, name: str) -> None:
        count = 0
        while not stop.is_set():
            with RoutedSession(database) as session:
                session.add(Item(name=f"{name}-{count}"))
                port = session.connection().scalar(text("SELECT @@port"))
                session.commit()
                committed.append((time.monotonic(), port, f"{name}-{count}"))
                count += 1

    with shop.open() as first, shop.open() as second:
        threads = [
            threading.Thread(target=write, args=each) for each in ((first, "a"), (second, "b"))
        ]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(committed) > 20)
            shop.hold()
            new.catch_up(old)
            promote(new, other)
            shop.set(1, (2,))
            before = len(committed)
            until(lambda: len(committed) > before + 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        ports = [port for _, port, _ in sorted(committed)]
        switched = ports.index(new.port)
        assert set(ports[:switched]) == {old.port}
        assert set(ports[switched:]) == {new.port}
        other.catch_up(new)
        with RoutedSession(first, after=add(first, "last")) as session:
            kept = set(session.scalars(select(Item.name)))
        assert kept == {name for _, _, name in committed} | {"last"}
