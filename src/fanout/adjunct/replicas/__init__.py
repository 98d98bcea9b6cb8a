"""Routes what a service asks of its databases: writes to the primary, reads to replicas.

`Databases` follows discovery for a process; `RoutedSession` is SQLAlchemy's session over one of
them; `Database.writer` and `Database.reader` are the same as plain functions.
"""

from fanout.adjunct.replicas.config import RoutingConfig
from fanout.adjunct.replicas.database import Database
from fanout.adjunct.replicas.databases import Databases
from fanout.adjunct.replicas.router import OwnWrites
from fanout.adjunct.replicas.session import RoutedSession

__all__ = ["Database", "Databases", "OwnWrites", "RoutedSession", "RoutingConfig"]
