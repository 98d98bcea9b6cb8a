"""The Redis users of a node: who may do what there, and with which password.

Sidecars publish for their clients as `DATA_USER`, and do everything else as `CTL_USER`. Taking
`+publish` from the first shuts the door to clients' messages and disturbs nobody's subscriptions;
Redis answers NOPERM, so a publisher knows that nothing was executed.
Source of the rules: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

import hashlib
import hmac

from fanout.values.names import IDENTITY_KEY, RESERVED_PREFIX, NodeId

DATA_USER = "fanout-data"
CTL_USER = "fanout-ctl"
AGENT_USER = "fanout-agent"

SELECTORS_SINCE = 7
"""The first Redis that can allow a command on some channels and another on all."""


def password(secret: str, cluster: str, node: NodeId, user: str) -> str:
    """Return a user's password on a node; without a secret of the fleet there is none."""
    if not secret:
        return ""
    message = f"{cluster}/{node}/{user}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def data_rules(login: str, *, is_open: bool) -> tuple[str, ...]:
    """Return the ACL rules of `DATA_USER`, whose password is `login`."""
    rules = (*_base(login), "+get", "+info")
    return (*rules, "+publish") if is_open else rules


def ctl_rules(login: str, *, redis_version: int) -> tuple[str, ...]:
    """Return the ACL rules of `CTL_USER` for a Redis of that major version."""
    rules = (
        *_base(login),
        *("+get", "+info", "+pubsub"),
        *("+subscribe", "+psubscribe", "+unsubscribe", "+punsubscribe"),
    )
    if redis_version >= SELECTORS_SINCE:
        return (*rules, f"(+publish resetchannels &{RESERVED_PREFIX.decode()}*)")
    return (*rules, "+publish")


def agent_rules(login: str) -> tuple[str, ...]:
    """Return the ACL rules of the agent on a Redis that it started."""
    return ("reset", "on", f">{login}", "~*", "&*", "+@all")


def _base(login: str) -> tuple[str, ...]:
    key = f"~{IDENTITY_KEY.decode()}"
    return ("reset", "on", f">{login}" if login else "nopass", "resetchannels", "&*", key, "-@all")
