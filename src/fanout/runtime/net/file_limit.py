"""The limit of open files: every client and every link uses a file descriptor."""

import resource

import structlog

log = structlog.get_logger()

OWN_FILES = 1024
"""File descriptors reserved for links to nodes and discovery, which must be able to reconnect."""


def raise_file_limit(clients: int) -> None:
    """Raise the soft limit of open files for `clients`; warn when the hard limit is too low.

    Service managers start processes with a low soft limit, for old programs that use select(2);
    other programs raise it up to the hard limit.
    """
    wanted = clients + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    allowed = wanted if hard == unlimited else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        reason = "too few for clients-max; raise the limit of open files (ulimit -n) or lower it"
        log.warning("files_limited", allowed=allowed, wanted=wanted, reason=reason)
