"""Makes SQLAlchemy's engines for the servers of one database, with errors a person understands."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from fanout.adjunct.replicas.errors import DatabaseDown
from fanout.adjunct.replicas.flavours import Flavour, flavour_of
from fanout.errors import ConfigError
from fanout.values import Endpoint

OnLost = Callable[[Endpoint, float, str], None]
"""Called with a server, the time (of `time.monotonic`) and why it is down."""


class Engines:
    """Makes engines.

    Args:
        name: of the database, for messages.
        url: driver, user, password and database; host and port do not count.
        options: arguments of SQLAlchemy's `create_engine`, for all but those that measure.
        on_lost: told of servers that cannot be connected to, or cut a connection.

    Raises:
        ConfigError: the URL cannot be read, its driver is not known or not installed, or an
            option is not allowed.

    """

    def __init__(
        self, name: str, url: str | URL, options: Mapping[str, Any], on_lost: OnLost
    ) -> None:
        self._name = name
        self._options = {"pool_pre_ping": True, **options}
        self._on_lost = on_lost
        self._retired: WeakSet[Engine] = WeakSet()
        try:
            self._url = make_url(url)
        except (ArgumentError, ValueError):  # the message repeats the URL
            raise ConfigError(
                f"database {name}: its URL cannot be read; write "
                "mysql+pymysql://USER:PASSWORD@/DATABASE"
            ) from None
        self.flavour: Flavour = flavour_of(name, self._url)
        self._make(self._options).dispose()  # what is wrong with the options is said at the start

    def writing(self, primary: Callable[[], Endpoint]) -> Engine:
        """Return an engine that connects to what `primary` returns at that time.

        Each connection says where it leads: its pool entry's `info` has it under `primary`.
        """
        engine = self._make(self._options)
        tried: Endpoint | None = None

        def connect(
            _dialect: Any, entry: ConnectionPoolEntry, _args: Any, keywords: dict[str, Any]
        ) -> None:
            nonlocal tried
            tried = entry.info["primary"] = primary()
            keywords.update(host=tried.host, port=tried.port)

        event.listen(engine, "do_connect", connect)
        self._explain(engine, lambda: tried)
        return engine

    def reading(self, endpoint: Endpoint) -> Engine:
        """Return an engine for one server; its connections refuse to write."""

        def make_read_only(dbapi_connection: Any, _entry: ConnectionPoolEntry) -> None:
            cursor = dbapi_connection.cursor()
            cursor.execute(self.flavour.read_only)
            cursor.close()
            dbapi_connection.commit()

        engine = self._make(self._options, endpoint)
        event.listen(engine, "connect", make_read_only)
        self._explain(engine, lambda: endpoint)
        return engine

    def measuring(self, endpoint: Endpoint, timeout_seconds: float) -> Engine:
        """Return an engine for one server that waits no longer than it must."""
        timeouts = self.flavour.timeouts(timeout_seconds)
        return self._make({"connect_args": timeouts, "isolation_level": "AUTOCOMMIT"}, endpoint)

    def retire(self, engine: Engine) -> None:
        """Close an engine's idle connections now, and those in use when they are given back."""
        self._retired.add(engine)
        engine.dispose()

    def reason(self, error: BaseException) -> str:
        """Return what a driver says, in one line and without the password."""
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return said.replace(self._url.password, "***") if self._url.password else said

    def _make(self, options: Mapping[str, Any], endpoint: Endpoint | None = None) -> Engine:
        host, port = (endpoint.host, endpoint.port) if endpoint else (None, None)
        try:
            # Both at once: set() takes None for "as it is".
            url = URL.create(
                self._url.drivername,
                self._url.username,
                self._url.password,
                host,
                port,
                self._url.database,
                self._url.query,
            )
            engine = create_engine(url, **options)
        except (ArgumentError, ImportError, TypeError) as error:
            raise ConfigError(f"database {self._name}: {self.reason(error)}") from None

        def take_back(_dbapi: Any, entry: ConnectionPoolEntry) -> None:
            if engine in self._retired:  # its pool is gone, and would not close it
                entry.invalidate()

        event.listen(engine, "checkin", take_back)
        return engine

    def _explain(self, engine: Engine, endpoint_of: Callable[[], Endpoint | None]) -> None:
        """Have connections that fail be told of, and those that cannot be made be DatabaseDown."""

        def explain(context: ExceptionContext) -> DatabaseDown | None:
            connecting = context.connection is None
            endpoint = endpoint_of()
            # A connection from before the server was restarted says nothing of the server now.
            if context.is_pre_ping or not (connecting or context.is_disconnect) or not endpoint:
                return None
            reason = self.reason(context.original_exception)
            self._on_lost(endpoint, time.monotonic(), reason)
            if not connecting:
                return None
            return DatabaseDown(
                f"database {self._name}: {endpoint} cannot be connected to: {reason}"
            )

        event.listen(engine, "handle_error", explain, retval=True)
