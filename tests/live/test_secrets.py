"""Settings from everywhere at once, and a password that nobody gets to see."""

import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import redis

from fanout.core.users import CTL_USER, DATA_USER, password
from fanout.values import NodeId
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


def test_the_secret_of_the_fleet_is_seen_nowhere(fleet: Fleet, tmp_path: Path) -> None:
    """Nor the passwords made of it: not by ps, in no log, no answer and no error."""
    users = tmp_path / "users.toml"
    users.write_text(f'[users.app]\nsecrets = ["sha256:{sha256(CANARY.encode()).hexdigest()}"]')
    fleet.add_discovery()
    secret = {"FANOUT_SECRET": CANARY, "FANOUT_DISCOVERY": fleet.discovery[0]}
    passwords = [password(CANARY, "default", NodeId("n"), user) for user in (DATA_USER, CTL_USER)]
    node = fleet.start(
        command("fanout-node"), "--spawn", "127.0.0.1:0", "--id", "n", *FAST,
        "--log-level", "debug", env=secret,
    )  # fmt: skip
    node.wait_line("ready node=n")
    sidecar = fleet.start(
        command("fanout-sidecar"), "--id", "s", "--users", str(users), "--resp", "127.0.0.1:0",
        "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *FAST, "--log-level", "debug", env=secret,
    )  # fmt: skip
    sidecar.wait_line("ready ")
    seen = b""
    port = sidecar.port("resp")
    for user, said in (("app", CANARY + "x"), (CANARY, "app")):
        with redis.Redis(port=port, username=user, password=said) as client:
            with pytest.raises(redis.exceptions.AuthenticationError) as wrong:
                client.ping()
            seen += str(wrong.value).encode()
    with redis.Redis(port=port, username="app", password=CANARY) as client:
        seen += repr(client.execute_command("CLIENT", "LIST")).encode()
        seen += repr(client.execute_command("INFO")).encode()
    seen += httpx.get(f"{sidecar.ready['admin']}/readyz").content
    for form in ((), ("--json",)):
        status = [command("fanout-node"), "status", *form]
        done = subprocess.run(status, env={**os.environ, **secret}, capture_output=True, check=True)
        seen += done.stdout + done.stderr
    pids = [str(node.pid), str(sidecar.pid)]
    children = subprocess.run(["pgrep", "-P", pids[0]], capture_output=True, check=True, text=True)
    for pid in (*pids, *children.stdout.split()):
        seen += Path(f"/proc/{pid}/cmdline").read_bytes()
    for process in (sidecar, node):
        assert process.stop() == 0
        seen += process.log.read_bytes() + process.said
    for hidden in ("kanarie", *passwords):
        assert hidden.encode() not in seen


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
