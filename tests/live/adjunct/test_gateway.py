"""A pool of instances as users meet it: by HTTP and by name, through the installed commands."""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dns.resolver
import httpx
import pytest
import redis

from tests.support import waiting
from tests.support.adjunct.knot import SECRET, ZONE, Knot
from tests.support.live.authority import Authority
from tests.support.live.fleet import Fleet, Process, command

pytestmark = pytest.mark.live

LIMIT_SECONDS = 30.0
until = partial(waiting.until, seconds=LIMIT_SECONDS)
CANARY = "gateway-canary"


@pytest.fixture
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    """A name server with one zone."""
    with Knot(tmp_path_factory.mktemp("knot")) as server:
        yield server


@pytest.fixture
def discovery(fleet: Fleet) -> Process:
    """The discovery Redis."""
    return fleet.add_discovery()


@pytest.fixture
def pool(fleet: Fleet, discovery: Process, monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Three instances of `web`, the third of weight two."""
    monkeypatch.setenv("FANOUT_GATEWAY_SECRET", CANARY)
    monkeypatch.setenv("FANOUT_DNS_KEY", f"fanout:{SECRET}")
    fleet.node("node-1")
    return [
        fleet.sidecar(
            f"web-{number}", "--gateway-pool", "web",
            "--gateway-address", f"http://127.0.0.{number}:8080",
            "--gateway-weight", str(max(1, number - 1)), "--gateway-drain-seconds", "8" if number == 1 else "0.1",
        )
        for number in (1, 2, 3)
    ]  # fmt: skip


def get(sidecar: Process, path: str, **headers: str) -> httpx.Response:
    """Send a GET request to a sidecar's admin door without keeping cookies."""
    return httpx.get(f"http://127.0.0.1:{sidecar.port('admin')}{path}", headers=headers)


def picks(sidecar: Process, count: int) -> Counter[str]:
    """Hand out new users; return how many each instance got."""
    return Counter(get(sidecar, "/gateway/web").json()["instance"] for _ in range(count))


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run fanout-sidecar to its end."""
    return subprocess.run(
        (command("fanout-sidecar"), *arguments),
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        env={"PATH": "/usr/bin:/bin", **env},
    )


def states(fleet: Fleet) -> dict[str, str]:
    """Return the instances that discovery knows of, and their states."""
    status = run("gateway", "status", "--json", "--discovery", fleet.discovery[0])
    return {each["instance"]: each["state"] for each in json.loads(status.stdout).get("web", ())}


class Names:
    """Looks names up, as a user's resolver does."""

    def __init__(self, knot: Knot) -> None:
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = ["127.0.0.1"]
        self._resolver.port = knot.port

    def last_bytes(self) -> set[int]:
        """Return the last numbers of the addresses of the pool's name."""
        try:
            answer = self._resolver.resolve(f"web.{ZONE}.", "A")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return set()
        return {int(str(each).rpartition(".")[2]) for each in answer}


def test_users_are_handed_out_while_instances_come_and_go(
    fleet: Fleet, discovery: Process, pool: list[Process], knot: Knot
) -> None:
    """By every sidecar and by name; drained, crashed, and with discovery gone."""
    first, second, third = pool
    names = Names(knot)
    updater = fleet.start(
        command("fanout-sidecar"), "dns", "--pool", "web", "--zone", ZONE, "--server",
        f"127.0.0.1:{knot.port}", "--discovery", fleet.discovery[0], "--grace-seconds", "1",
    )  # fmt: skip
    updater.wait_line(f"ready name=web.{ZONE} ")
    until(lambda: names.last_bytes() == {1, 2, 3})
    assert states(fleet) == {f"web-{number}": "active" for number in (1, 2, 3)}
    for sidecar in pool:
        until(lambda: picks(sidecar, 8) == {"web-1": 2, "web-2": 2, "web-3": 4})  # noqa: B023

    # A returning user, at another sidecar; and a browser.
    token = next(
        answer["token"]
        for _ in range(8)
        if (answer := get(second, "/gateway/web").json())["instance"] == "web-1"
    )
    again = get(third, f"/gateway/web?token={token}").json()
    assert (again["instance"], again["returning"]) == ("web-1", True)
    sent = get(third, "/gateway/web", accept="text/html", cookie=f"fanout_gateway_web={token}")
    assert (sent.status_code, sent.headers["location"]) == (307, "http://127.0.0.1:8080")

    # Drain: the door stays open, new and returning users go elsewhere.
    first.popen.send_signal(signal.SIGTERM)
    until(lambda: names.last_bytes() == {2, 3})
    assert states(fleet)["web-1"] == "draining"
    client = redis.Redis(port=first.port("resp"))
    client.publish("news", b"still served")
    client.close()
    until(lambda: picks(second, 6) == {"web-2": 2, "web-3": 4})
    assert get(second, f"/gateway/web?token={token}").json()["instance"] != "web-1"
    assert first.popen.wait(LIMIT_SECONDS) == 0
    assert "web-1" not in states(fleet)

    # Crash: gone by its lease.
    second.stop(signal.SIGKILL)
    until(lambda: picks(third, 4) == {"web-3": 4})
    until(lambda: names.last_bytes() == {3})

    # Discovery is away: everything stays as it is.
    status = run("gateway", "status", "web", "--json", "--discovery", fleet.discovery[0])
    assert (status.returncode, [*json.loads(status.stdout)]) == (0, ["web"])
    discovery.stop(signal.SIGKILL)
    failed = run("gateway", "status", "--discovery", fleet.discovery[0])
    assert (failed.returncode, "no discovery Redis can be read" in failed.stderr) == (1, True)
    assert third.stop() == 0
    assert names.last_bytes() == {3}
    assert updater.stop() == 0
    said = "".join(each.log.read_text() + each.said.decode() for each in (*pool, updater))
    assert CANARY not in said
    assert SECRET not in said


def test_the_updater_reads_its_certificate_again(
    fleet: Fleet, discovery: Process, knot: Knot, tmp_path: Path
) -> None:
    """At each SIGHUP; an invalid one is logged, and changes nothing."""
    certificate = Authority(tmp_path, "fleet").issue("updater")
    updater = fleet.start(
        command("fanout-sidecar"), "dns", "--pool", "web", "--zone", ZONE, "--server",
        f"127.0.0.1:{knot.port}", "--discovery", fleet.discovery[0],
        "--tls-client-cert", str(certificate), env=KEY,
    )  # fmt: skip
    updater.wait_line(f"ready name=web.{ZONE} ")
    updater.popen.send_signal(signal.SIGHUP)
    until(lambda: b"certificates_reloaded" in updater.log.read_bytes())
    certificate.write_text("no certificate")
    updater.popen.send_signal(signal.SIGHUP)
    until(lambda: b"certificates_not_reloaded" in updater.log.read_bytes())
    assert updater.stop() == 0
    assert discovery.popen.poll() is None


def test_the_door_asks_who_calls(pool: list[Process]) -> None:
    """Pages of other sites learn nothing, and names that are not the door's lead nowhere."""
    (sidecar, *_) = pool
    refused = [
        get(sidecar, "/gateway/web", origin="https://evil.example"),
        get(sidecar, "/gateway/web?redirect", host="evil.example"),
        get(sidecar, "/gateway/web", host="evil.example"),
    ]

    assert [each.status_code for each in refused] == [403] * 3
    assert not any("web-1" in each.text or "set-cookie" in each.headers for each in refused)
    unknown = get(sidecar, "/gateway/webb")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "NOPOOL")


DNS = ("dns", "--pool", "web", "--zone", ZONE)
KEY = {"FANOUT_DNS_KEY": f"fanout:{SECRET}"}
URL = ("--discovery", "redis://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        ((*DNS, *URL, "--server", "h"), {}, ["dns-key: missing", "FANOUT_DNS_KEY"]),
        ((*DNS, *URL, "--server", "h", "--dns-key", SECRET), {}, ["FANOUT_DNS_KEY", "--config"]),
        (
            (*DNS, *URL, "--server", "h"),
            {"FANOUT_DNS_KEY": SECRET},
            ["dns-key: ", "[ALGORITHM:]NAME:SECRET", "variable FANOUT_DNS_KEY"],
        ),
        ((*DNS, *URL), KEY, ["server: missing", "--server"]),
        (
            (*DNS, *URL, "--server", "h:0"),
            KEY,
            ["server: invalid value 'h:0'", "port other than 0"],
        ),
        ((*DNS, *URL, "--server", "h", "--name", "x.org"), KEY, ["x.org", f"the zone {ZONE}"]),
        ((*DNS, "--server", "h"), KEY, ["discovery: missing"]),
        ((*URL, "--gateway-pool", "web"), {}, ["gateway-address: missing", "--gateway-pool"]),
        ((*URL, "--gateway-pool", "a b"), {}, ["gateway-pool: invalid value 'a b'", "letters"]),
        (
            (*URL, "--gateway-pool", "web", "--gateway-address", "javascript:alert(1)"),
            {},
            ["gateway-address: ", "SCHEME://HOST"],
        ),
        ((*URL, "--gateway-secret", CANARY), {}, ["FANOUT_GATEWAY_SECRET"]),
        ((*URL, "--gateway-ip", "localhost"), {}, ["gateway-ip: ", "IPv4 or IPv6"]),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_two(
    arguments: tuple[str, ...], env: dict[str, str], words: list[str]
) -> None:
    """The line names the setting and the way out, and no secret."""
    done = run(*arguments, **env)

    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert [word for word in words if word not in done.stderr] == []
    assert SECRET not in done.stderr
    assert CANARY not in done.stderr


def test_refusals_of_the_name_server_and_unknown_pools(
    fleet: Fleet, pool: list[Process], knot: Knot
) -> None:
    """Exit code 2 for a key that is wrong, 1 for a pool that is not there; and why."""
    at = ("--discovery", fleet.discovery[0])
    server = ("--server", f"127.0.0.1:{knot.port}")
    wrong: list[Any] = [
        (run(*DNS, *server, *at, FANOUT_DNS_KEY="fanout:d3Jvbmc="), 2, "the signature we sent"),
        (run(*DNS, *server, *at, FANOUT_DNS_KEY=f"me:{SECRET}"), 2, "key me may update"),
        (run("gateway", "status", "webb", *at), 1, "no pool 'webb'"),
    ]
    for done, code, words in wrong:
        assert done.returncode == code
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    shown = run("gateway", "status", *at)
    assert shown.returncode == 0
    assert [line.split()[:3] for line in shown.stdout.splitlines()] == [
        ["POOL", "INSTANCE", "STATE"],
        *(["web", f"web-{number}", "active"] for number in (1, 2, 3)),
    ]
    assert len(pool) == 3
