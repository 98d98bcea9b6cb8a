"""What a database makes of measurements, without a server."""

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
    """Return one that nobody connects to."""
    made = Database("shop", "mysql+pymysql://u@/shop", RoutingConfig(), options or {})
    made.adopt(FIRST)
    return made


def test_an_answer_to_a_question_of_before_the_switch_does_not_count() -> None:
    """The replica was asked as a replica; by now it is the primary."""
    made = database()
    for server in ("h:1", "h:2"):
        made.measure(server, FakeMeter("0-1-1", made))  # type: ignore[arg-type]
    assert made.readable() == {"h:2"}
    switched = attrs.evolve(FIRST, version=2, primary="h:2", replicas={"h:1": 1})
    made.measure("h:2", FakeMeter("0-1-1", made, switched))  # type: ignore[arg-type]
    assert made.readable() == set()  # where the new primary is nobody knows yet
    made.measure("h:2", FakeMeter("0-1-1", made))  # type: ignore[arg-type]
    assert made.readable() == {"h:1"}


def test_it_is_measured_as_long_as_it_is_a_server() -> None:
    """Then whoever measures it ends."""
    made = database()
    assert made.measure("h:2", FakeMeter("0-1-1", made))  # type: ignore[arg-type]
    assert made.adopt(attrs.evolve(FIRST, version=2, replicas={"h:3": 1})).keys() == {"h:3"}
    assert not made.measure("h:2", FakeMeter("0-1-1", made))  # type: ignore[arg-type]


def test_a_measurement_connects_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its certificates, say, and bounded in time besides."""
    made: list[dict[str, Any]] = []

    def create(_url: Any, **options: Any) -> Any:
        made.append(options["connect_args"])
        return create_engine("sqlite://")

    monkeypatch.setattr(database_module, "create_engine", create)
    database({"connect_args": {"ssl_ca": "ca.pem", "read_timeout": 60}})
    assert {"ssl_ca": "ca.pem", "read_timeout": 60} in made
    assert {
        "ssl_ca": "ca.pem",
        **dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 2),
    } in made
