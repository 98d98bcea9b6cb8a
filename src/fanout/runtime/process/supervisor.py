"""Notifies the supervisor of this process of its state.

The protocol is systemd's sd_notify(3), which other supervisors implement too: one datagram to the
Unix socket in NOTIFY_SOCKET.
"""

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Send one state; do nothing without NOTIFY_SOCKET, and ignore errors."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux: a socket in the abstract namespace
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor,
    ):
        supervisor.setblocking(False)
        supervisor.sendto(state.encode(), address)
