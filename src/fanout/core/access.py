"""The users of the doors: who they are, and which channels they may use.

Rules of matching are those of Redis' ACL: a channel is matched by the listed patterns; a pattern
that a client subscribes to must itself be listed, letter by letter, unless `*` is. Nothing is
allowed that is not listed.
Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/

A user may have several secrets at once, so that a new one can be handed out before an old one is
taken back. They are kept as SHA-256 digests, like Redis does: that is enough for long random
secrets, and no protection for short passwords.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from fanout.core.glob import compile_pattern
from fanout.errors import ConfigError
from fanout.values.names import NAME, RESERVED_PREFIX

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LISTS = ("publish", "subscribe", "psubscribe")
USERS_MAX = 10_000


def digest(secret: bytes) -> str:
    """Return a secret as it stands in a file of users."""
    return f"sha256:{hashlib.sha256(secret).hexdigest()}"


@attrs.frozen(eq=False)
class Access:
    """What one client may do, who has logged in as `user` with the secret of `digest`."""

    user: str
    digest: str
    rights: "Rights"

    def may_publish(self, channel: bytes) -> bool:
        """Return whether messages to a channel are taken."""
        return any(match(channel) for match in self.rights.publish)

    def may_subscribe(self, channel: bytes) -> bool:
        """Return whether a channel may be heard."""
        return any(match(channel) for match in self.rights.subscribe)

    def may_psubscribe(self, pattern: bytes) -> bool:
        """Return whether a pattern may be heard."""
        return pattern in self.rights.psubscribe or b"*" in self.rights.psubscribe


@attrs.frozen(eq=False)
class Rights:
    """The three lists of a user."""

    publish: tuple[Callable[[bytes], bool], ...]
    subscribe: tuple[Callable[[bytes], bool], ...]
    psubscribe: frozenset[bytes]


@attrs.frozen
class _User:
    digests: tuple[str, ...]
    rights: Rights


class Users:
    """All users of a sidecar."""

    def __init__(self, users: Mapping[str, _User]) -> None:
        self._users = users
        self._tokens = {each: name for name, user in users.items() for each in user.digests}

    def __len__(self) -> int:
        return len(self._users)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Users":
        """Read `{"users": {name: {"secrets": [...], "publish": [...], ...}}}`.

        Raises:
            ConfigError: something is missing, unknown or of another form. No secret is repeated.

        """
        users = values.get("users")
        if set(values) != {"users"} or not isinstance(users, dict) or not users:
            raise ConfigError("users: the file must hold tables [users.NAME], and nothing else")
        if len(users) > USERS_MAX:
            raise ConfigError(f"users: {len(users)} are over the limit of {USERS_MAX}")
        found = {name: _user(name, value) for name, value in users.items()}
        owners: dict[str, str] = {}
        for name, user in found.items():
            for each in user.digests:
                if owners.setdefault(each, name) != name:
                    raise ConfigError(f"users: {owners[each]} and {name} have the same secret")
        return cls(found)

    def log_in(self, name: str, secret: bytes) -> Access | None:
        """Return what a user may do; None when there is no such user or it has another secret."""
        user = self._users.get(name)
        given = digest(secret)
        matches = [
            each
            for each in (user.digests if user is not None else ("",))
            if hmac.compare_digest(each, given)
        ]
        return Access(name, given, user.rights) if user is not None and matches else None

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return what the user may do whose secret this is; None when it is nobody's."""
        given = digest(token)
        name = self._tokens.get(given)
        return Access(name, given, self._users[name].rights) if name is not None else None

    def renew(self, access: Access) -> Access | None:
        """Return what a client that logged in earlier may do now; None when its secret is gone."""
        user = self._users.get(access.user)
        if user is None or access.digest not in user.digests:
            return None
        return Access(access.user, access.digest, user.rights)


def _user(name: str, value: Any) -> _User:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"users: {name[:64]!r} is no name; use letters, digits, '.', '_', '-', "
            "a letter or digit first, at most 64"
        )
    if not isinstance(value, dict) or not set(value) <= {"secrets", *_LISTS}:
        raise ConfigError(
            f"users: {name} may hold secrets, publish, subscribe and psubscribe, nothing else"
        )
    secrets = _texts(name, "secrets", value.get("secrets", []))
    if not secrets or not all(_DIGEST.fullmatch(each) for each in secrets):
        raise ConfigError(
            f"users: {name} needs secrets, each written as sha256: and 64 hexadecimal digits; "
            "fanout-sidecar digest makes one"
        )
    lists = {each: _texts(name, each, value.get(each, [])) for each in _LISTS}
    return _User(
        tuple(secrets),
        Rights(
            tuple(_matcher(each) for each in lists["publish"]),
            tuple(_matcher(each) for each in lists["subscribe"]),
            frozenset(each.encode() for each in lists["psubscribe"]),
        ),
    )


def _texts(name: str, field: str, value: Any) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ConfigError(f"users: {field} of {name} must be a list of texts")
    if field != "secrets" and any(each.startswith(RESERVED_PREFIX.decode()) for each in value):
        raise ConfigError(f"users: {field} of {name} names channels of fanout itself")
    return value


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    return (lambda _channel: True) if pattern == "*" else compile_pattern(pattern.encode())
