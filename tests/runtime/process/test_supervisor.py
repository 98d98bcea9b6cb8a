"""Notifications to a supervisor such as systemd, which never block the process."""

import os
import socket
from pathlib import Path

import pytest

from fanout.runtime.process.console import announce_ready
from fanout.runtime.process.supervisor import STOPPING, notify


def listening(address: str) -> socket.socket:
    """Return a supervisor's socket."""
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    supervisor.setblocking(False)
    supervisor.bind("\0" + address[1:] if address.startswith("@") else address)
    return supervisor


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_the_supervisor_is_told(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both kinds of socket that systemd uses; ready is also the line on standard output."""
    address = str(tmp_path / "notify") if kind == "file" else f"@fanout-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as supervisor:
        announce_ready("ready node=a")
        notify(STOPPING)

        assert [supervisor.recv(100), supervisor.recv(100)] == [b"READY=1", b"STOPPING=1"]
    assert capsys.readouterr().out == "ready node=a\n"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/notify", "@fanout-test-nobody"])
def test_nobody_need_listen(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a supervisor, or with one that has gone, nothing happens."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify(STOPPING)


def test_a_supervisor_that_does_not_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its socket is full, what else is said is dropped."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with listening(address) as supervisor:
        for _ in range(10_000):
            notify(STOPPING)

        assert supervisor.recv(100) == b"STOPPING=1"
