"""Signed tokens by which a returning user is known, without anything being stored anywhere.

A token names an instance and an end, `1~INSTANCE~END~MAC`, and is good for one pool of one fleet.
It is no login: whoever has one is sent to that instance while it is active, which everybody may
be. The signature keeps users from choosing their instance, and so from gathering on one.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode

from fanout.values import NAME

TOKEN_CHARACTERS_MAX = 160
_VERSION = "1"


class Affinity:
    """Makes and reads the tokens of one fleet.

    Args:
        secret: the same for all that hand out users; not empty.
        cluster: the fleet.
        lifetime_seconds: how long a token is good, by the wall clocks of those who hand out.

    """

    def __init__(self, secret: str, cluster: str, lifetime_seconds: float) -> None:
        # A key of its own: what is signed here can be nothing else that the secret is for.
        self._key = hmac.digest(secret.encode(), b"fanout gateway affinity", hashlib.sha256)
        self._cluster = cluster
        self.lifetime_seconds = lifetime_seconds

    def token(self, pool: str, instance: str, now: float) -> str:
        """Return a token; `now` is in seconds since 1970."""
        end = int(now + self.lifetime_seconds)
        return f"{_VERSION}~{instance}~{end}~{self._mac(pool, instance, end)}"

    def instance(self, token: str, pool: str, now: float) -> str | None:
        """Return the instance that a token names; None if it is not ours, not this pool's, or old."""
        parts = token.split("~") if len(token) <= TOKEN_CHARACTERS_MAX and token.isascii() else []
        if len(parts) != 4 or parts[0] != _VERSION:  # noqa: PLR2004 - the parts of a token
            return None
        _, instance, end, mac = parts
        if not NAME.fullmatch(instance) or not end.isdigit():
            return None
        if not hmac.compare_digest(mac, self._mac(pool, instance, int(end))):
            return None
        return instance if now < int(end) else None

    def _mac(self, pool: str, instance: str, end: int) -> str:
        # No name holds a slash, so no two of these are the same text.
        signed = f"{_VERSION}/{self._cluster}/{pool}/{instance}/{end}".encode()
        return (
            urlsafe_b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode().rstrip("=")
        )
