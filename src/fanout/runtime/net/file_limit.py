"""How many files this process may have open: every client is one, and so is every link."""

import resource

import structlog

log = structlog.get_logger()

OWN_FILES = 1024
"""Room for links to nodes and discovery: clients must not take what those need to connect anew."""


def raise_file_limit(clients: int) -> None:
    """Let this process have so many clients, as far as it may; a warning says when it may not.

    Service managers start processes with a low soft limit, for the sake of old programs that
    cannot take more, and leave it to others to raise it as far as the hard one.
    """
    wanted = clients + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    allowed = wanted if hard == unlimited else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        reason = "clients may use up all of them; raise the limit (ulimit -n) or lower clients-max"
        log.warning("files_limited", allowed=allowed, wanted=wanted, reason=reason)
