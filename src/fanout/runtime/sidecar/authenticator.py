"""Who may use the doors: the file of users, read at the start and again on SIGHUP."""

from collections.abc import Callable

import structlog

from fanout.core.access import Access, Users, digest
from fanout.errors import ConfigError
from fanout.runtime.process.toml_file import read_toml

log = structlog.get_logger()

LOGIN_SECONDS = 5.0
"""How long a client may take to log in."""

LOCKED_OUTBOX_BYTES_MAX = 16_384
"""What may wait for a client that has yet to log in; the refusals it gets are short."""


class Authenticator:
    """The users of one sidecar; without a file anybody is let in.

    Raises:
        ConfigError: the file cannot be read or is wrong.

    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._users = _read(path) if path else None
        self.on_change: list[Callable[[], None]] = []
        """Called when the users have changed."""

    @property
    def has_users(self) -> bool:
        """Whether clients must log in."""
        return self._users is not None

    def log_in(self, name: str, secret: bytes) -> Access | None:
        """Return what a user may do; None when there is none with this secret."""
        return self._users.log_in(name, secret) if self._users is not None else None

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return what the user may do whose secret this is; None when it is nobody's."""
        return self._users.log_in_by_token(token) if self._users is not None else None

    def renew(self, access: Access) -> Access | None:
        """Return what a client that has logged in may do now; None when its secret is gone."""
        return self._users.renew(access) if self._users is not None else access

    def reload(self) -> None:
        """Read the file again; one that is wrong changes nothing."""
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
    """Return a secret as it stands in the file."""
    return digest(secret)


def _read(path: str) -> Users:
    return Users.from_mapping(read_toml("users", path))
