"""The Redis users of a node: their ACL rules and passwords.

Sidecars publish for their clients as `DATA_USER`, and do everything else as `CTL_USER`. Removing
`+publish` from `DATA_USER` closes the publish gate and leaves subscriptions as they are. Redis
then answers NOPERM, so a publisher knows that nothing was executed.
Source of the rules: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

import hashlib
import hmac

from fanout.values.names import IDENTITY_KEY, RESERVED_PREFIX, NodeId

DATA_USER = "fanout-data"
CTL_USER = "fanout-ctl"
AGENT_USER = "fanout-agent"

SELECTORS_SINCE = 7
"""The first major version of Redis with ACL selectors: rules for some channels only."""


def password(secret: str, cluster: str, node: NodeId, user: str) -> str:
    """Return a user's password on a node; empty if the fleet has no secret."""
    if not secret:
        return ""
    message = f"{cluster}/{node}/{user}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def data_rules(login: str, *, is_open: bool) -> tuple[str, ...]:
    """Return the ACL rules of `DATA_USER`, with the password `login`."""
    rules = (*_base(login), "+get", "+info")
    return (*rules, "+publish") if is_open else rules


def ctl_rules(login: str, *, redis_version: int) -> tuple[str, ...]:
    """Return the ACL rules of `CTL_USER` for a major version of Redis."""
    rules = (
        *_base(login),
        *("+get", "+info", "+pubsub"),
        *("+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe"),
    )
    if redis_version >= SELECTORS_SINCE:
        return (*rules, f"(+publish resetchannels &{RESERVED_PREFIX.decode()}*)")
    return (*rules, "+publish")


def agent_rules(login: str) -> tuple[str, ...]:
    """Return the ACL rules of the agent on a Redis server that it started."""
    return ("reset", "on", f">{login}", "~*", "&*", "+@all")


def _base(login: str) -> tuple[str, ...]:
    key = f"~{IDENTITY_KEY.decode()}"
    return ("reset", "on", f">{login}" if login else "nopass", "resetchannels", "&*", key, "-@all")
