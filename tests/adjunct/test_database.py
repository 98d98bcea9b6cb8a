"""What a database makes of measurements, without a server."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from sqlalchemy import create_engine

from fanout.adjunct import database as database_module
from fanout.adjunct.database import Database
from fanout.adjunct.routing import RoutingConfig
from fanout.adjunct.topology import DatabaseRecord
from tests.support.live.shop import until

FIRST = DatabaseRecord(cluster="c", database="shop", version=1, primary="h:1", replicas={"h:2": 1})


@attrs.frozen
class FakeMeter:
    """Stands for an engine: tells a position, perhaps after the topology has changed."""

    position: str
    database: Database
    meanwhile: DatabaseRecord | None = None

    @contextmanager
    def connect(self) -> Iterator[Any]:
        """Return itself as the connection, and its answer."""
        yield self

    def exec_driver_sql(self, _statement: str) -> "FakeMeter":
        """Answer."""
        if self.meanwhile is not None:
            self.database.adopt(self.meanwhile)
        return self

    def scalar_one(self) -> str:
        """Return the value."""
        return self.position


def database(options: Mapping[str, Any] | None = None) -> Database:
    """Return a database whose servers are never connected to."""
    made = Database("shop", "mysql+pymysql://u@/shop", RoutingConfig(), options or {})
    made.adopt(FIRST)
    return made


def test_an_answer_to_a_question_of_before_the_switch_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The replica was asked as a replica; by now it is the primary."""
    monkeypatch.setattr(Database, "_keep_measuring", lambda *_: None)
    made = database()
    for server in ("h:1", "h:2"):
        made._measure(server, FakeMeter("0-1-1", made))  # type: ignore[arg-type]
    assert made.readable() == {"h:2"}
    switched = attrs.evolve(FIRST, version=2, primary="h:2", replicas={"h:1": 1})
    made._measure("h:2", FakeMeter("0-1-1", made, switched))  # type: ignore[arg-type]
    assert made.readable() == set()  # the new primary's position is not known yet
    made._measure("h:2", FakeMeter("0-1-1", made))  # type: ignore[arg-type]
    assert made.readable() == {"h:1"}


def test_a_measurement_connects_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its certificates, say, and bounded in time besides; and ends with the database."""
    used: list[dict[str, Any]] = []

    def create(_url: Any, **options: Any) -> Any:
        used.append(options["connect_args"])
        return create_engine("sqlite://")

    monkeypatch.setattr(database_module, "create_engine", create)
    own = {"ssl_ca": "ca.pem", "read_timeout": 60}
    made = database({"connect_args": own})
    until(made.is_measured)
    bounds = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 2)
    assert used.count(own) == 3  # the writer and two readers
    assert used.count({**own, **bounds}) == 2
    assert len(measuring()) == 2

    made.adopt(attrs.evolve(FIRST, version=2, replicas={}))
    until(lambda: len(measuring()) == 1)
    made.close()
    until(lambda: not measuring())


def measuring() -> list[str]:
    """Return the threads that measure."""
    return [each.name for each in threading.enumerate() if each.name == "fanout-measure-shop"]
