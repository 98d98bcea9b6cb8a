"""Routing over a real MariaDB primary with two replicas."""

import signal

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from fanout.adjunct.replicas.errors import DatabaseDown
from fanout.adjunct.replicas.session import RoutedSession
from tests.live.mariadb import PASSWORD, mariadb_template, servers
from tests.live.shop import (
    LIMIT_SECONDS,
    Item,
    Shop,
    add,
    asked,
    healthy,
    names,
    readers,
    shop,
    until,
)

__all__ = ["mariadb_template", "servers", "shop"]

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
