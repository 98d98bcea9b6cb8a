"""Settings from everywhere at once, and a password that nobody gets to see."""

import signal
import sys
from pathlib import Path

import pytest
import redis

from tests.live.conftest import FAST, Fleet, command
from tests.live.test_fleet import until

pytestmark = pytest.mark.live

CANARY = "kanarie/7@2:9"
QUOTED = "kanarie%2F7%402%3A9"


def test_discovery_lists_and_passwords_from_file_and_environment(
    fleet: Fleet, tmp_path: Path
) -> None:
    """TOML for the sidecar, the environment for the node; one of two instances needs a login."""
    fleet.add_discovery()
    guarded, port = fleet.redis("--requirepass", CANARY)
    urls = [fleet.discovery[0], f"redis://:{QUOTED}@127.0.0.1:{port}"]
    file = tmp_path / "sidecar.toml"
    file.write_text(
        f"discovery = {urls!r}\nid = 'from-file'\nresp = '127.0.0.1:0'\nws = '127.0.0.1:0'\n"
        "admin = '127.0.0.1:0'\nlog_level = 'debug'\nlease_seconds = 1.5\n"
        "heartbeat_interval_seconds = 0.3\nreconnect_max_seconds = 0.5\n"
    )
    node = fleet.start(
        command("fanout-node"), "--spawn", "127.0.0.1:0", *FAST, "--log-level", "debug",
        env={"FANOUT_DISCOVERY": " ".join(urls), "FANOUT_ID": "from-environment"},
    )  # fmt: skip
    node.wait_line("ready node=from-environment")
    sidecar = fleet.start(command("fanout-sidecar"), "--config", str(file))
    sidecar.wait_line("ready ")

    with redis.Redis(port=port, password=CANARY) as connection:
        until(lambda: connection.smembers("fanout:{default}:sidecars") == {b"from-file"}
              or bool(list(connection.scan_iter("*from-file*"))))  # fmt: skip
        assert list(connection.scan_iter("*from-environment*"))
    guarded.stop(signal.SIGKILL)  # its loss is logged by both, with its address
    for process in (node, sidecar):
        until(lambda process=process: str(port) in process.log.read_text())  # type: ignore[misc]
        seen = process.log.read_bytes() + process.said
        if sys.platform == "linux":
            seen += Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"kanarie" not in seen
    assert sidecar.stop() == 0
    assert node.stop() == 0
    assert b"kanarie" not in node.log.read_bytes() + sidecar.log.read_bytes()


@pytest.mark.parametrize("name", ["fanout-node", "fanout-sidecar"])
def test_a_wrong_url_is_named_without_its_password(fleet: Fleet, name: str) -> None:
    """The message says which setting, where it came from and what to write; exit code 2."""
    process = fleet.start(
        command(name), env={"FANOUT_DISCOVERY": f"redis://:{CANARY}@127.0.0.1:1/x"}
    )

    assert process.popen.wait(30) == 2
    said = process.log.read_text()
    assert said.startswith("Error: discovery: ") and "FANOUT_DISCOVERY" in said
    assert "kanarie" not in said and "Traceback" not in said
