"""A shop's database: a real primary with two replicas, in the records of a real discovery Redis."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import attrs
import pytest
import trio
from sqlalchemy import String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fanout.adjunct.replicas import Database, Databases, RoutedSession, RoutingConfig
from fanout.adjunct.topology import DatabaseRecord, read_topology, set_topology
from fanout.config import DiscoveryAddress, FleetConfig
from tests.support import waiting
from tests.support.live.fleet import Fleet
from tests.support.live.mariadb import PASSWORD, MariaDB

LIMIT_SECONDS = 30.0
until = partial(waiting.until, seconds=LIMIT_SECONDS)
URL = f"mysql+pymysql://shop:{PASSWORD}@ignored:1/shop"
QUICK = RoutingConfig(measure_interval_seconds=0.1, lag_seconds_max=0.4, switch_wait_seconds=20.0)


class Base(DeclarativeBase):
    """The models of a shop."""


class Item(Base):
    """Something to sell."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


@attrs.define
class Shop:
    """The servers of a database, discovery, and processes that route."""

    servers: list[MariaDB]
    fleet: FleetConfig
    discovery: subprocess.Popen[bytes]

    @classmethod
    def told_by(
        cls, servers: list[MariaDB], fleet: Fleet, timeout_seconds: float = LIMIT_SECONDS
    ) -> Self:
        """Start one discovery instance more, and use them all."""
        process = fleet.add_discovery().popen
        discovery = tuple(map(DiscoveryAddress.parse, fleet.discovery))
        config = FleetConfig(discovery=discovery, timeout_seconds=timeout_seconds)
        return cls(servers, config, process)

    @contextmanager
    def open(self, *names: str, **options: Any) -> Iterator[Databases]:
        """A process that routes to databases of these names."""
        config = attrs.evolve(QUICK, **options)
        with Databases(self.fleet, dict.fromkeys(names, URL), config=config) as databases:
            yield databases

    @contextmanager
    def process(self, **options: Any) -> Iterator[Database]:
        """A process that routes to the database `shop`, with both replicas in use."""
        with self.open("shop", **options) as databases:
            database = databases["shop"]
            known = database.topology
            assert known is not None
            until(lambda: readers(database) == {port_of(each) for each in known.replicas})
            yield database

    def set(
        self,
        primary: int,
        replicas: tuple[int, ...] = (),
        name: str = "shop",
        weights: dict[str, int] | None = None,
    ) -> int:
        """Write the roles of the servers to discovery; return the version."""
        address = self.servers[primary].address
        told = (
            {self.servers[number].address: 1 for number in replicas} if weights is None else weights
        )
        change = partial(set_topology, self.fleet, name, primary=address, replicas=told)
        return trio.run(change).version

    def show(self) -> DatabaseRecord:
        """Return the record in discovery."""
        return trio.run(read_topology, self.fleet, "shop")

    def port(self, number: int) -> int:
        """Return the port of a server."""
        return self.servers[number].port


@pytest.fixture
def shop(servers: list[MariaDB], fleet: Fleet) -> Shop:
    """A database whose topology discovery knows."""
    shop = Shop.told_by(servers, fleet)
    shop.set(0, (1, 2))
    return shop


def asked(database: Database, **options: Any) -> int:
    """Return the port of the server that one read goes to."""
    with RoutedSession(database, **options) as session:
        port: int = session.execute(select(text("@@port"))).scalar_one()
    return port


def readers(database: Database, rounds: int = 6) -> set[int]:
    """Return the ports of the servers that some reads go to."""
    return {asked(database) for _ in range(rounds)}


def port_of(server: str) -> int:
    """Return the port of HOST:PORT."""
    return int(server.rpartition(":")[2])


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


def promote(new: MariaDB, *others: MariaDB) -> None:
    """Have a replica lead, and others follow it."""
    new.lead()
    for other in others:
        other.follow(new)
