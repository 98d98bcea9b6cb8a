"""`fanout-sidecar sub` and `pub` against real sidecars: what is said, where, and how it ends."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from fanout.core.access import digest
from fanout.runtime.redis.redis_server import free_port
from tests.support.live.authority import Authority
from tests.support.live.fleet import Fleet, Process, command
from tests.support.live.terminal import open_terminal
from tests.support.waiting import until

pytestmark = pytest.mark.live

WAIT_SECONDS = 30.0
CANARY = "canary-secret"


def arguments(what: str, sidecar: Process | str, *rest: str) -> list[str]:
    """Return a command that goes through a sidecar."""
    url = sidecar if isinstance(sidecar, str) else sidecar.ready["ws"]
    return [command("fanout-sidecar"), what, "--sidecar", url, *rest]


def run(
    what: str,
    sidecar: Process | str,
    *rest: str,
    env: dict[str, str] | None = None,
    data: bytes = b"",
) -> tuple[int, str, str]:
    """Run one and return its exit code and what it said."""
    done = subprocess.run(
        arguments(what, sidecar, *rest),
        input=data, capture_output=True, check=False, timeout=60, env=env,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def subscribed(fleet: Fleet, sidecar: Process | str, *rest: str) -> Process:
    """Start a subscriber and wait until it has subscribed."""
    one = fleet.start(*arguments("sub", sidecar, *rest))
    until(lambda: b"subscribed to" in one.log.read_bytes())
    return one


def small_fleet(fleet: Fleet, *extra: str) -> Process:
    """Start two nodes and a sidecar."""
    fleet.add_discovery()
    fleet.node("node-0")
    fleet.node("node-1")
    return fleet.sidecar("one", *extra)


def test_what_is_published_is_shown(fleet: Fleet) -> None:
    """Text, standard input byte by byte, channels and patterns, counted; in words and as JSON."""
    sidecar = small_fleet(fleet)
    told = subscribed(fleet, sidecar, "news", "--pattern", "sp*", "--count", "4")
    values = subscribed(fleet, sidecar, "news", "--pattern", "sp*", "--json", "--count", "4")

    assert run("pub", sidecar, "news", "hello") == (0, "2\n", "")
    assert run("pub", sidecar, "sport", "-", data=b"a\n\x1b[2J\xff") == (0, "2\n", "")
    assert run("pub", sidecar, "--json", "news", "--", "-5") == (0, '{"receivers": 2}\n', "")
    assert run("pub", sidecar, "news", "") == (0, "2\n", "")
    assert run("pub", sidecar, "nobody", "x") == (0, "0\n", "")

    assert told.popen.wait(WAIT_SECONDS) == values.popen.wait(WAIT_SECONDS) == 0
    assert told.says(b"-5\nnews  \n")
    assert told.said == b"news  hello\nsport (sp*)  a\\n\\x1b[2J\\xff\nnews  -5\nnews  \n"
    assert values.says(b'"data": ""}\n')
    assert [json.loads(line) for line in values.said.splitlines()] == [
        {"type": "message", "channel": "news", "data": "hello"},
        {
            "type": "message",
            "pattern": "sp*",
            "channel": "sport",
            "data_base64": "YQobWzJK/w==",
        },
        {"type": "message", "channel": "news", "data": "-5"},
        {"type": "message", "channel": "news", "data": ""},
    ]
    assert told.log.read_text() == "subscribed to news, sp*\n"


def test_a_local_fleet_says_how_to_try_it(fleet: Fleet) -> None:
    """And the lines that it prints work as they stand there."""
    local = fleet.start(
        command("fanout-sidecar"), "--local", "1", "--resp", "127.0.0.1:0", "--ws", "127.0.0.1:0",
        "--admin", "127.0.0.1:0",
    )  # fmt: skip
    ready = local.wait_line("ready resp=")
    hint = local.wait_line(f"  {command('fanout-sidecar')} sub ").split()
    look = local.wait_line(f"  {command('fanout-sidecar')} top ").split()
    one = fleet.start(*hint, "--count", "1")
    until(lambda: b"subscribed to news" in one.log.read_bytes())

    assert run("pub", hint[-1], "news", "hello") == (0, "1\n", "")
    assert one.says(b"news  hello\n")
    shown = subprocess.run([*look, "--once"], capture_output=True, text=True, check=True)
    assert "node-1" in shown.stdout
    assert hint[-1] in ready
    assert local.stop() == 0


def test_a_subscriber_outlives_its_sidecar_and_tells_the_gap(fleet: Fleet) -> None:
    """On standard error, and among the JSON; a node that is lost likewise."""
    fleet.add_discovery()
    node = fleet.node("node-0")
    fleet.node("node-1")
    door = f"127.0.0.1:{free_port('127.0.0.1')}"
    sidecar = fleet.sidecar("one", "--ws", door)
    one = subscribed(fleet, f"ws://{door}/", "c", "--json")
    assert sidecar.stop() == 0
    until(lambda: b"reconnecting: " in one.log.read_bytes())
    fleet.sidecar("two", "--ws", door)
    until(lambda: b"gap: reconnected" in one.log.read_bytes())
    assert run("pub", f"ws://{door}/", "c", "after")[0] == 0
    assert one.says(b'"after"}\n')
    node.stop(signal.SIGKILL)
    until(lambda: b"gap: node-0 is not heard" in one.log.read_bytes())
    until(lambda: b"gap: node-0 is given up" in one.log.read_bytes())
    assert one.says(b'"left"}\n')
    one.stop(signal.SIGTERM)

    assert [json.loads(line) for line in one.said.splitlines()] == [
        {"type": "gap", "node": "", "reason": "reconnected"},
        {"type": "message", "channel": "c", "data": "after"},
        {"type": "gap", "node": "node-0", "reason": "lost"},
        {"type": "gap", "node": "node-0", "reason": "left"},
    ]
    assert b"Traceback" not in one.log.read_bytes()


def test_ctrl_c_ends_a_subscriber_quietly(fleet: Fleet) -> None:
    """As it does any command: nothing more is said, and the exit code tells it."""
    sidecar = small_fleet(fleet)
    with open_terminal(*arguments("sub", sidecar, "c")) as terminal:
        terminal.wait(lambda: "subscribed to c" in terminal.said)
        assert run("pub", sidecar, "c", "x") == (0, "1\n", "")
        terminal.wait(lambda: "\x1b[2mc\x1b[0m  x\r\n" in terminal.said)
        terminal.type("\x03")
        assert terminal.end() == 130
        assert terminal.said.replace("^C", "").endswith("c\x1b[0m  x\r\n")


def test_a_reader_that_leaves_ends_a_subscriber_quietly(fleet: Fleet) -> None:
    """At once, not only at the next message."""
    sidecar = small_fleet(fleet)
    one = subscribed(fleet, sidecar, "c")
    assert run("pub", sidecar, "c", "x") == (0, "1\n", "")
    assert one.says(b"c  x\n")
    assert one.popen.stdout is not None
    one.popen.stdout.close()

    assert one.popen.wait(WAIT_SECONDS) == 141
    assert one.log.read_text() == "subscribed to c\n"


def test_what_a_sidecar_refuses_is_one_line(fleet: Fleet) -> None:
    """With its code, and exit code 1; also a message that is far too large."""
    sidecar = small_fleet(fleet)
    for what, rest, data, words in (
        ("sub", ("__fanout:x",), b"", "reserved_channel"),
        ("pub", ("__fanout:x", "m"), b"", "reserved_channel"),
        ("pub", ("c" * 2000, "m"), b"", "name_too_long"),
        ("pub", ("c", "-"), b"x" * 30_000_000, "limit of 1048576 bytes"),
    ):
        code, out, err = run(what, sidecar, *rest, data=data)
        assert (code, out) == (1, "")
        assert words in err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("/dev/full", "standard output: No space left on device"),
        ("&-", "standard output is closed"),
    ],
)
def test_output_that_cannot_be_written_is_an_error(fleet: Fleet, where: str, words: str) -> None:
    """One line, once."""
    sidecar = small_fleet(fleet)
    script = f'exec "$@" >{where}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *arguments("pub", sidecar, "c", "m")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("what", ["sub", "pub"])
def test_without_a_sidecar_there_is_an_error_at_once(what: str) -> None:
    """It names the address, why, and the option."""
    url = f"ws://127.0.0.1:{free_port('127.0.0.1')}/"
    code, out, err = run(what, url, "c", *(["m"] if what == "pub" else []))

    assert (code, out) == (1, "")
    assert err.startswith(f"Error: no_sidecar: {url} cannot be reached: ")
    assert "Connection refused" in err
    assert "--sidecar" in err
    assert err.count("\n") == 1


def test_a_login_comes_from_the_environment_or_a_file(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong one, none, and a channel without a right are refused in one line each."""
    users = tmp_path / "users.toml"
    secrets = json.dumps([digest(CANARY.encode())])
    users.write_text(f'[users.app]\nsecrets = {secrets}\npublish = ["a"]\nsubscribe = ["a"]\n')
    sidecar = small_fleet(fleet, "--users", str(users))
    file = tmp_path / "own.toml"
    file.write_text(f'token = "{CANARY}"\nadmin_url = "http://127.0.0.1:1/"\nresp = "h:1"\n')

    assert run("pub", sidecar, "a", "m", "--config", str(file)) == (0, "0\n", "")
    for token, words in (("", "authentication required"), ("wrong", "invalid token")):
        if token:
            monkeypatch.setenv("FANOUT_TOKEN", token)
        for what, rest in (("pub", ("a", "m")), ("sub", ("a",))):
            code, out, err = run(what, sidecar, *rest)
            assert (code, out) == (1, "")
            assert words in err
            assert "FANOUT_TOKEN" in err
            assert err.count("\n") == 1
    monkeypatch.setenv("FANOUT_TOKEN", CANARY)
    assert run("pub", sidecar, "a", "m") == (0, "0\n", "")
    for what, rest in (("pub", ("b", "m")), ("sub", ("b",)), ("sub", ("--pattern", "*"))):
        code, out, err = run(what, sidecar, *rest)
        assert (code, out) == (1, "")
        assert err.startswith("Error: forbidden: ")
        assert err.count("\n") == 1
    code, _, err = run("pub", sidecar, "a", "m", "--token", CANARY)
    assert code == 2
    assert CANARY not in err


def test_both_speak_tls(fleet: Fleet, tmp_path: Path) -> None:
    """Also where the sidecar asks for a certificate."""
    authority = Authority(tmp_path, "one")
    certificate = str(authority.issue("door"))
    ca = str(authority.ca)
    sidecar = small_fleet(fleet, "--tls-cert", certificate, "--tls-client-ca", ca)
    trusting = ("--tls-ca", ca, "--tls-client-cert", certificate)
    one = subscribed(fleet, sidecar, "c", "--count", "1", *trusting)

    assert run("pub", sidecar, "c", "m", *trusting) == (0, "1\n", "")
    assert one.says(b"c  m\n")
    assert one.popen.wait(WAIT_SECONDS) == 0
    code, _, err = run("pub", sidecar, "c", "m")
    assert code == 1
    assert "certificate verify failed" in err
    code, _, err = run("pub", sidecar, "c", "m", "--tls-ca", str(tmp_path / "none"))
    assert (code, err) == (2, "Error: tls-ca: cannot be read: No such file or directory\n")
