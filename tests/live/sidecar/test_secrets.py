"""Settings from all sources at once, and a password that is never shown."""

import os
import signal
import ssl
import subprocess
import sys
from functools import partial
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import redis
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fanout.core.users import CTL_USER, DATA_USER, password
from fanout.values.names import NodeId
from tests.support.live.authority import Authority
from tests.support.live.fleet import FAST, Fleet, Process, command
from tests.support.waiting import until

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


def lines_of(key: Path) -> list[str]:
    """Return the lines of a private key that must stay secret."""
    text = key.read_text()
    body = text[text.index("PRIVATE KEY-----") : text.index("-----END")]
    return [line for line in body.splitlines()[1:] if line]


def errors_of(sidecar: Process, ca: Path) -> bytes:
    """Make every mistake with a secret that one can make at the doors; return what is said."""
    said = b""
    login = partial(redis.Redis, host="localhost", port=sidecar.port("resp"), ssl=True)
    for user, secret in (("app", CANARY + "x"), (CANARY, "app")):
        with login(username=user, password=secret, ssl_ca_certs=str(ca)) as client:
            with pytest.raises(redis.exceptions.AuthenticationError) as wrong:
                client.ping()
            said += str(wrong.value).encode()
    with login(username="app", password=CANARY, ssl_ca_certs=str(ca)) as client:
        for command_ in ("CLIENT LIST", "CLIENT INFO", "INFO everything", "CONFIG GET *"):
            said += repr(client.execute_command(*command_.split())).encode()
        # An unknown command is repeated, as Redis does it, to its sender only.
        with pytest.raises(redis.exceptions.ResponseError, match="unknown command 'AUTHX'"):
            client.execute_command("AUTHX", CANARY)
    context = ssl.create_default_context(cafile=str(ca))
    admin = sidecar.ready["admin"]
    for path in ("healthz", "readyz", "metrics", f"readyz?token={QUOTED}", f"{QUOTED}"):
        answer = httpx.get(f"{admin}{path}", verify=context)
        said += repr(answer.headers).encode() + answer.content
    door = sidecar.ready["ws"].replace("wss:", "https:")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    for headers in (
        {"Authorization": f"Bearer {CANARY}x", **upgrade},
        {"Sec-WebSocket-Protocol": "fanout.token." + CANARY.encode().hex(), **upgrade},
        {"Cookie": f"token={CANARY}"},
    ):
        answer = httpx.get(f"{door}?token={QUOTED}", headers=headers, verify=context)
        assert answer.is_client_error
        said += repr(answer.headers).encode() + answer.content
    return said


def test_the_secrets_of_a_fleet_are_seen_nowhere(fleet: Fleet, tmp_path: Path) -> None:
    """Nor passwords made of them, nor keys: not by ps, in no log, no answer and no error."""
    authority = Authority(tmp_path, "doors")
    door, own = authority.issue("door"), authority.issue("own")
    users = tmp_path / "users.toml"
    digest = sha256(CANARY.encode()).hexdigest()
    users.write_text(f'[users.app]\nsecrets = ["sha256:{digest}"]\npublish = ["*"]')
    fleet.add_discovery()
    secret = {"FANOUT_SECRET": CANARY, "FANOUT_DISCOVERY": fleet.discovery[0]}
    passwords = [password(CANARY, "default", NodeId("n"), user) for user in (DATA_USER, CTL_USER)]
    tls = ("--tls-ca", str(authority.ca), "--tls-client-cert", str(own))
    node = fleet.start(
        command("fanout-node"), "--spawn", "127.0.0.1:0", "--id", "n", *FAST, *tls,
        "--log-level", "debug", env=secret,
    )  # fmt: skip
    node.wait_line("ready node=n")
    sidecar = fleet.start(
        command("fanout-sidecar"), "--id", "s", "--users", str(users), "--resp", "127.0.0.1:0",
        "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *FAST, *tls, "--tls-cert", str(door),
        "--log-level", "debug", env=secret,
    )  # fmt: skip
    sidecar.wait_line("ready ")
    seen = errors_of(sidecar, authority.ca)
    keys = [*lines_of(door), *lines_of(own)]
    door.write_text("\n".join(keys))
    users.write_text(f"[users.app]\nsecrets = ['{CANARY}', {digest}")
    sidecar.popen.send_signal(signal.SIGHUP)
    until(lambda: b"certificates_not_reloaded" in sidecar.log.read_bytes())
    assert b"users_not_reloaded" in sidecar.log.read_bytes()
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
    for hidden in ("kanarie", digest, *passwords, *keys):
        assert hidden.encode() not in seen


@pytest.mark.parametrize(
    "option",
    ["config", "users", "tls-cert", "tls-key", "tls-client-ca", "tls-ca", "tls-client-cert"],
)
def test_a_key_in_the_wrong_place_is_not_repeated(
    fleet: Fleet, tmp_path: Path, option: str
) -> None:
    """Whichever file it is given as: the message names the option, and what the file should be."""
    keys = lines_of(Authority(tmp_path, "doors").issue("door"))
    path = tmp_path / "key.pem"
    path.write_text(
        "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *keys, "-----END RSA PRIVATE KEY-----"])
    )
    door = ("--tls-cert", str(Authority(tmp_path, "other").issue("other")))
    process = fleet.start(
        command("fanout-sidecar"), "--discovery", "redis://127.0.0.1:1", "--resp", "127.0.0.1:0",
        "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *door, f"--{option}", str(path),
    )  # fmt: skip

    assert process.popen.wait(30) == 2
    said = process.log.read_text()
    assert said.startswith(f"Error: {option}: ") and "Traceback" not in said
    assert not any(line in said for line in keys)


def test_nobody_is_asked_for_a_passphrase(fleet: Fleet, tmp_path: Path) -> None:
    """Neither at the start nor on SIGHUP, when all clients would wait for the answer."""
    authority = Authority(tmp_path, "doors")
    door = authority.issue("door")
    plain = load_pem_private_key(door.read_bytes(), None)
    encrypted = plain.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(CANARY.encode())
    )
    key = tmp_path / "key.pem"
    key.write_bytes(encrypted)
    fleet.add_discovery()
    fleet.node("node-0")
    arguments = (
        command("fanout-sidecar"), "--discovery", fleet.discovery[0], "--resp", "127.0.0.1:0",
        "--ws", "127.0.0.1:0", "--admin", "127.0.0.1:0", *FAST, "--tls-cert", str(door),
        "--tls-key", str(key),
    )  # fmt: skip
    refused = fleet.start(*arguments)
    assert refused.popen.wait(30) == 2
    assert refused.log.read_text().startswith("Error: tls-key: encrypted private keys are not ")

    key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    sidecar = fleet.start(*arguments)
    sidecar.wait_line("ready ")
    key.write_bytes(encrypted)
    sidecar.popen.send_signal(signal.SIGHUP)
    until(lambda: b"encrypted private keys are not supported" in sidecar.log.read_bytes())
    context = ssl.create_default_context(cafile=str(authority.ca))
    assert httpx.get(f"{sidecar.ready['admin']}readyz", verify=context).is_success
    assert b"kanarie" not in sidecar.log.read_bytes() + refused.log.read_bytes()


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
