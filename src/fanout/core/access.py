"""The users that may log in at the doors, and the channels that each may use.

Matching follows Redis' ACL: a channel must match one of the listed patterns; a pattern that a
client subscribes to must itself be listed, byte for byte, unless `*` is listed. Everything else
is denied.
Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/

A user may have several secrets at once, so that secrets can be rotated: add the new one before
removing the old one. Secrets are stored as SHA-256 digests, as in Redis. That is enough for long
random secrets, and no protection for short passwords.
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
    """Return the digest of a secret, as written in the users file."""
    return f"sha256:{hashlib.sha256(secret).hexdigest()}"


@attrs.frozen(eq=False)
class Access:
    """The rights of a client that logged in as `user` with the secret of `digest`."""

    user: str
    digest: str
    rights: "Rights"

    def may_publish(self, channel: bytes) -> bool:
        """Return whether the client may publish to a channel."""
        return any(match(channel) for match in self.rights.publish)

    def may_subscribe(self, channel: bytes) -> bool:
        """Return whether the client may subscribe to a channel."""
        return any(match(channel) for match in self.rights.subscribe)

    def may_psubscribe(self, pattern: bytes) -> bool:
        """Return whether the client may subscribe to a pattern."""
        return pattern in self.rights.psubscribe or b"*" in self.rights.psubscribe


@attrs.frozen(eq=False)
class Rights:
    """The three access lists of a user."""

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
            ConfigError: a field is missing, unknown or malformed. The message contains no secret.

        """
        users = values.get("users")
        if set(values) != {"users"} or not isinstance(users, dict) or not users:
            raise ConfigError("users: the file must contain tables [users.NAME] and nothing else")
        if len(users) > USERS_MAX:
            raise ConfigError(f"users: {len(users)} users exceed the limit of {USERS_MAX}")
        found = {name: _user(name, value) for name, value in users.items()}
        owners: dict[str, str] = {}
        for name, user in found.items():
            for each in user.digests:
                if owners.setdefault(each, name) != name:
                    raise ConfigError(f"users: {owners[each]} and {name} have the same secret")
        return cls(found)

    def log_in(self, name: str, secret: bytes) -> Access | None:
        """Return the access of a user; None for an unknown user or a wrong secret."""
        user = self._users.get(name)
        given = digest(secret)
        matches = [
            each
            for each in (user.digests if user is not None else ("",))
            if hmac.compare_digest(each, given)
        ]
        return Access(name, given, user.rights) if user is not None and matches else None

    def log_in_by_token(self, token: bytes) -> Access | None:
        """Return the access of the user with this secret; None for an invalid token."""
        given = digest(token)
        name = self._tokens.get(given)
        return Access(name, given, self._users[name].rights) if name is not None else None

    def renew(self, access: Access) -> Access | None:
        """Return the present access of a client that logged in before; None if its secret is gone."""
        user = self._users.get(access.user)
        if user is None or access.digest not in user.digests:
            return None
        return Access(access.user, access.digest, user.rights)


def _user(name: str, value: Any) -> _User:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"users: invalid name {name[:64]!r}: expected at most 64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    if not isinstance(value, dict) or not set(value) <= {"secrets", *_LISTS}:
        raise ConfigError(
            f"users: {name} may contain secrets, publish, subscribe and psubscribe, nothing else"
        )
    secrets = _texts(name, "secrets", value.get("secrets", []))
    if not secrets or not all(_DIGEST.fullmatch(each) for each in secrets):
        raise ConfigError(
            f"users: {name} needs secrets, each as sha256: and 64 hexadecimal digits; "
            "create one with: fanout-sidecar digest"
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
        raise ConfigError(f"users: {field} of {name} must be a list of strings")
    if field != "secrets" and any(each.startswith(RESERVED_PREFIX.decode()) for each in value):
        raise ConfigError(f"users: {field} of {name} names channels reserved for fanout")
    return value


def _matcher(pattern: str) -> Callable[[bytes], bool]:
    return (lambda _channel: True) if pattern == "*" else compile_pattern(pattern.encode())
