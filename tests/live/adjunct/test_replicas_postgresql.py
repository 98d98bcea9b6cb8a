"""Routing over a real PostgreSQL primary with a replica."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import trio
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from fanout.adjunct.replicas import Database, Databases, RoutedSession
from fanout.adjunct.topology import set_topology
from fanout.config import FleetConfig
from tests.support.live.fleet import Fleet
from tests.support.live.postgresql import PostgreSQL, pair
from tests.support.live.shop import QUICK, add, names, until

__all__ = ["pair"]

pytestmark = pytest.mark.live

URL = "postgresql+psycopg://postgres@/postgres"


def asked(database: Database, after: str = "") -> int:
    """Return the port of the server that one read goes to."""
    with RoutedSession(database, after=after) as session:
        return int(session.execute(select(func.inet_server_port())).scalar_one())


def refuses_writes(engine: Engine) -> None:
    """Try to write where one only reads."""
    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match="read-only trans"):
        connection.execute(text("INSERT INTO item (name) VALUES ('x')"))


def test_reads_go_to_the_replica_while_it_is_as_far_as_they_need(
    pair: tuple[PostgreSQL, PostgreSQL], fleet: Fleet
) -> None:
    """By position, for lag and for own writes; and a replica becomes the primary."""
    primary, replica = pair
    fleet.add_discovery()
    config = FleetConfig.from_mapping({"discovery": fleet.discovery})

    def tell(primary: PostgreSQL, replicas: dict[str, int]) -> None:
        told = partial(set_topology, config, "shop")
        trio.run(partial(told, primary=primary.address, replicas=replicas))

    tell(primary, {replica.address: 1})
    with Databases(config, {"shop": URL}, config=QUICK) as databases:
        database = databases["shop"]
        until(lambda: asked(database) == replica.port)
        refuses_writes(database.reader())

        replica.run("SELECT pg_wal_replay_pause()")
        position = add(database, "mine")
        assert names(database, after=position) == {"mine"}
        until(lambda: asked(database) == primary.port)  # it lags by now
        refuses_writes(database.reader())
        replica.run("SELECT pg_wal_replay_resume()")
        until(lambda: asked(database, after=position) == replica.port)
        assert names(database, after=position) == {"mine"}

        primary.run("ALTER SYSTEM SET default_transaction_read_only = on")
        primary.run("SELECT pg_reload_conf()")
        until(lambda: primary.run("SHOW transaction_read_only") == [("on",)])
        replica.run("SELECT pg_promote()")
        with ThreadPoolExecutor() as threads:
            adding = threads.submit(add, database, "new")
            tell(replica, {})
            adding.result()
        assert replica.run("SELECT name FROM item ORDER BY id") == [("mine",), ("new",)]
        assert primary.run("SELECT name FROM item") == [("mine",)]
