"""Tells the supervisor of this process, if it listens, how far we are.

The protocol is that of systemd's sd_notify(3), which others speak too: one datagram to the Unix
socket that NOTIFY_SOCKET names.
"""

import contextlib
import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"


def notify(state: str) -> None:
    """Send one state. Nothing happens where nobody asked for it, or nobody listens any more."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # a name of Linux that is no file
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor,
    ):
        supervisor.setblocking(False)
        supervisor.sendto(state.encode(), address)
