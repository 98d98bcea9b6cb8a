"""Authentication of clients: the users file, read at the start and again on SIGHUP."""

from collections.abc import Callable

import structlog

from fanout.core.access import Access, Users, digest
from fanout.errors import ConfigError
from fanout.runtime.process.toml_file import read_toml

log = structlog.get_logger()

LOGIN_SECONDS = 5.0
"""How long a client may take to log in."""

LOCKED_OUTBOX_BYTES_MAX = 16_384
"""The outbox limit of a client that has not logged in; its error replies are short."""


class Authenticator:
    """The users of one sidecar; without a users file no login is required.

    Raises:
        ConfigError: the file cannot be read or is invalid.

    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._users = _read(path) if path else None
        self.on_change: list[Callable[[], None]] = []
        """Called after the users file was read again."""

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""
        return self._users is not None

    def log_in(self, name: str, secret: bytes) -> Access | None:
        """Return the rights of a user; None when the user or the secret is wrong."""
        return self._users.log_in(name, secret) if self._users is not None else None

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return the rights of the user with this secret; None for an invalid token."""
        return self._users.log_in_by_token(token) if self._users is not None else None

    def renew(self, access: Access) -> Access | None:
        """Return the present rights of a logged-in client; None when its secret was removed."""
        return self._users.renew(access) if self._users is not None else access

    def reload(self) -> None:
        """Read the file again; keep the present users when it is invalid."""
        if not self._path:
            return
        try:
            self._users = _read(self._path)
        except ConfigError as error:
            log.warning("users_not_reloaded", reason=str(error))
            return
        log.info("users_reloaded", users=len(self._users))
        for changed in self.on_change:
            changed()


def digest_of(secret: bytes) -> str:
    """Return the digest of a secret, as the users file holds it."""
    return digest(secret)


def _read(path: str) -> Users:
    return Users.from_mapping(read_toml("users", path))
