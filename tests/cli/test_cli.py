"""The commands: sources of options and their precedence, errors, secrets, help, exit codes."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import fanout.adjunct
from fanout.config import (
    BridgeConfig,
    NodeConfig,
    SidecarConfig,
    TopConfig,
    flag,
    groups,
    options,
    renamed,
)
from fanout.errors import ConfigError, FanoutError, OutputFailed, RegistryUnavailable
from fanout_cli.node import main as node_main
from fanout_cli.options import Service
from fanout_cli.sidecar import main as sidecar_main
from fanout_cli.sources import gather, variable
from tests.support.commands import invoke

URL = "redis://127.0.0.1:1"
BASE = ("--discovery", URL)
COMMANDS: list[tuple[Service, Any]] = [(sidecar_main, SidecarConfig), (node_main, NodeConfig)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset all environment variables of the options."""
    former = {*renamed(SidecarConfig), *renamed(NodeConfig)}
    for name in {"config", *former, *options(SidecarConfig), *options(NodeConfig)}:
        monkeypatch.delenv(variable(name), raising=False)


def toml(folder: Path, text: str) -> str:
    """Write a configuration file and return its path."""
    file = folder / "fanout.toml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("name", "texts", "read"),
    [
        ("cluster", ("a", "b", "c"), lambda config: config.cluster),
        ("id", ("a", "b", "c"), lambda config: config.id),
        ("resp", ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"), lambda config: str(config.resp)),
        (
            "discovery",
            ("redis://h:1", "redis://h:2", "redis://h:3"),
            lambda config: str(config.discovery[0].primary),
        ),
        ("log_level", ("debug", "warning", "error"), lambda config: config.log_level),
        ("lease_seconds", ("11", "12", "13"), lambda config: f"{config.timings.lease_seconds:g}"),
        ("clients_max", ("11", "12", "13"), lambda config: str(config.limits.clients_max)),
    ],
)
def test_flag_beats_environment_beats_file_beats_default(
    name: str,
    texts: tuple[str, str, str],
    read: Callable[[SidecarConfig], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each source overrides all that come after it in this order."""
    base: dict[str, Any] = {} if name == "discovery" else {"discovery": (URL,)}
    in_file, in_environment, on_line = texts
    bare = {**base, "discovery": (URL,)}
    file = toml(tmp_path, f'{name} = "{in_file}"\n')

    def got(flags: dict[str, Any], file: str | None = None) -> str:
        return read(gather(SidecarConfig, flags, file)).removeprefix("redis://")

    expected = [text.removeprefix("redis://") for text in texts]
    assert got(bare) not in expected
    assert got(base, file) == expected[0]
    monkeypatch.setenv(variable(name), in_environment)
    assert got(base, file) == expected[1]
    on_line_value = (on_line,) if name == "discovery" else on_line
    assert got({**base, name: on_line_value}, file) == expected[2]
    monkeypatch.delenv(variable(name))
    assert got({**base, name: on_line_value}, file) == expected[2]


def test_the_file_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FANOUT_CONFIG names the file; --config overrides it."""
    monkeypatch.setenv("FANOUT_CONFIG", toml(tmp_path, 'cluster = "by-environment"\n'))
    flags = {"discovery": (URL,)}
    (tmp_path / "other").mkdir()
    other = toml(tmp_path / "other", 'cluster = "by-flag"\n')

    assert gather(SidecarConfig, flags, None).cluster == "by-environment"
    assert gather(SidecarConfig, flags, other).cluster == "by-flag"


def test_every_source_can_name_several_discoveries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeated flag, white space in the environment, an array in a file."""
    wanted = ["a:1", "b:2"]
    urls = ("redis://a:1", "redis://b:2")

    def got(flags: dict[str, Any], file: str | None = None) -> list[str]:
        return [str(each.primary) for each in gather(SidecarConfig, flags, file).discovery]

    assert got({"discovery": urls}) == wanted
    assert got({}, toml(tmp_path, f"discovery = {list(urls)}\n")) == wanted
    monkeypatch.setenv("FANOUT_DISCOVERY", " ".join(urls))
    assert got({}) == wanted


@pytest.mark.parametrize(
    "wrong",
    [
        ("clients_max", "none", ["clients-max: invalid value 'none'", "1 to 1000000"]),
        ("lease_seconds", "1", ["lease-seconds: 1", "twice heartbeat-interval-seconds"]),
        ("heartbeat_interval_seconds", "9", ["heartbeat-interval-seconds (9)", "twice"]),
        ("cluster", "a b", ["cluster: invalid value 'a b'", "letters"]),
        ("resp", "nowhere", ["resp: 'nowhere'", "HOST:PORT"]),
        ("local", "2", ["local: 2", "--discovery"]),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_a_wrong_value_says_which_whence_why_and_what_is_allowed(
    wrong: tuple[str, str, list[str]], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and one line on stderr, for every source."""
    name, value, words = wrong
    arguments = list(BASE)
    if source == "flag":
        arguments += [f"--{flag(name)}", value]
        origin = f"from flag --{flag(name)}"
    elif source == "environment":
        monkeypatch.setenv(variable(name), value)
        origin = f"from environment variable {variable(name)}"
    else:
        file = toml(tmp_path, f'{name} = "{value}"\n')
        arguments += ["--config", file]
        origin = f"from {name} in file {file}"
    result = invoke(sidecar_main, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    for word in [*words, origin]:
        assert word in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"lease_second = 3\n", ["lease_second: unknown option", "lease_seconds?"]),
        (b"[timings]\nlease_seconds = 3\n", ["timings: unknown option"]),
        (b"discovery = 5\n", ["discovery: invalid value 5", "list of URLs"]),
        (b"lease_seconds = \n", ["config", "is not TOML", "line 1"]),
        (b'cluster = "\xff"\n', ["config", "is not UTF-8 at byte 11"]),
        (None, ["config", "cannot read", "No such file"]),
    ],
)
def test_a_wrong_file_is_explained(text: bytes | None, words: list[str], tmp_path: Path) -> None:
    """The error is one line with the path and the fault."""
    file = tmp_path / "f.toml"
    if text is not None:
        file.write_bytes(text)
    result = invoke(sidecar_main, "--config", str(file))

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    for word in [*words, str(file)]:
        assert word in result.stderr


@pytest.mark.parametrize("main", [sidecar_main, node_main])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--discovery", "redis://u:canary@h:1"),
        ("--discovery", "redis://h:1,redis://:canary@h:2"),
        ("--discovery", "unix://u:canary@/r"),
        ("--discovery", "redis://u:can/canary@h"),
        ("--discovery", "redis://u:can,canary@h"),
        ("--cluster", "redis://u:canary@h"),
    ],
)
def test_a_password_on_the_command_line_is_refused(
    main: click.Command, arguments: tuple[str, ...]
) -> None:
    """It is visible in the process list; the error does not repeat it."""
    result = invoke(main, *arguments)

    assert result.exit_code == 2
    assert "canary" not in result.output
    assert f"{variable(arguments[0][2:])} or in a file by --config" in result.stderr


@pytest.mark.parametrize("main", [sidecar_main, node_main])
@pytest.mark.parametrize(
    "arguments",
    [
        ("redis://u:canary@h",),
        ("--discovry", "redis://u:canary@h"),
        ("--config", "redis://u:canary@h"),
        ("--discovery", "redis://h?password=canary"),
    ],
)
def test_a_misplaced_password_is_not_repeated(
    main: click.Command, arguments: tuple[str, ...]
) -> None:
    """The error for a mistyped argument does not contain the password in it."""
    result = invoke(main, *arguments)

    assert result.exit_code == 2
    assert "canary" not in result.output


def test_a_password_in_environment_or_file_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other users cannot read it there. A user name alone is not a secret."""
    monkeypatch.setenv("FANOUT_DISCOVERY", "redis://u:canary@h:1")
    file = toml(tmp_path, 'redis = "redis://u:canary@h:2"\n')
    config = gather(NodeConfig, {}, file)
    named = gather(NodeConfig, {"redis": "redis://u@h:2"}, None)

    assert config.discovery[0].primary.password == "canary"
    assert config.redis is not None
    assert config.redis.password == "canary"
    assert named.redis is not None
    assert (named.redis.username, named.redis.password) == ("u", "")
    assert "canary" not in f"{config} {config!r}"


@pytest.mark.parametrize("node_name", ["host", "a" * 64, "--", "ä.b_c", "pod-" * 20 + "x7k2p"])
def test_the_default_id_is_allowed_and_unique(
    node_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers have the process id 1 each, and long names that differ at the end only."""
    uname = type("uname", (), {"nodename": node_name})
    monkeypatch.setattr("os.uname", lambda: uname)
    monkeypatch.setattr("os.getpid", lambda: 1)
    found = [gather(SidecarConfig, {"discovery": (URL,)}, None).id for _ in range(2)]

    assert found[0] != found[1]
    for each in found:
        assert re.fullmatch(r"[A-Za-z0-9-]+-[0-9a-f]{8}", each)
        assert re.sub(r"[^A-Za-z0-9]+", "-", node_name)[-5:].strip("-") in each


@pytest.mark.parametrize(("main", "config"), COMMANDS)
def test_help_lists_every_option_under_its_heading(main: click.Command, config: Any) -> None:
    """With environment variable, metavar and description; and the page has an example."""
    text = invoke(main, "--help").output
    sections = re.split(r"^(\w+):$", text, flags=re.MULTILINE)[1:]
    found = dict(zip(sections[::2], sections[1::2], strict=True))

    assert [*groups(config), "General"] == [title for title in found if title != "Commands"]
    for title, group in groups(config).items():
        flat = " ".join(found[title].split())
        for name, field in group.items():
            assert f"--{flag(name)} {field.metadata['metavar']} " in flat
            assert f"[env: {variable(name)}" in flat
            assert field.metadata["help"] in flat
    assert "--config FILE" in found["General"]
    assert f"Example: {main.name} --" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_shows_defaults_as_they_are_written() -> None:
    """A default in the help has the form that its flag takes."""
    flat = " ".join(invoke(sidecar_main, "--help").output.split())

    assert "FANOUT_LEASE_SECONDS; default: 10]" in flat
    assert "FANOUT_OUTBOX_BYTES_MAX; default: 8388608]" in flat
    assert "FANOUT_RECONNECT_FIRST_SECONDS; default: 0.05]" in flat
    assert "FANOUT_RESP; default: 127.0.0.1:6380]" in flat
    assert "[env: FANOUT_DISCOVERY]" in flat


@pytest.mark.parametrize(("main", "config"), COMMANDS)
def test_the_usage_line_promises_no_subcommand_that_is_not_there(
    main: click.Command, config: Any
) -> None:
    """COMMAND is in the usage line only if there are subcommands."""
    del config
    assert isinstance(main, click.Group)
    rest = " [COMMAND] [ARGS]..." if main.commands else ""
    assert invoke(main, "--help").output.startswith(f"Usage: fanout [OPTIONS]{rest}\n")


@pytest.mark.parametrize("arguments", [("status",), ("drain", "--id", "n")])
def test_a_look_at_the_fleet_needs_only_its_own_settings(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """It may share the file of the services; the error names a missing option."""
    shared = toml(tmp_path, 'spawn = "127.0.0.1:0"\nresp = "127.0.0.1:1"\ncluster = "c"\n')
    lacking = invoke(node_main, *arguments, "--config", shared)
    wrong = invoke(node_main, *arguments, "--discovery", "redis://h:1", "--timeout-seconds", "0")

    assert (lacking.exit_code, wrong.exit_code) == (2, 2)
    assert "discovery: missing" in lacking.output
    assert "timeout-seconds: invalid value '0'" in wrong.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--every-seconds", "1"), "every-seconds: requires --watch"),
        (("--watch", "--every-seconds", "nan"), "every-seconds: invalid value nan"),
        (("--watch", "--every-seconds", "0"), "every-seconds: invalid value 0.0"),
        (("--watch", "--every-seconds", "soon"), "'soon' is not a valid float"),
    ],
)
def test_a_wrong_time_between_looks_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """Before discovery is read."""
    refused = invoke(node_main, "status", *BASE, *arguments)

    assert refused.exit_code == 2
    assert words in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sub",), "CHANNEL: missing"),
        (("sub", "c", "--count", "0"), "--count"),
        (("sub", "c", "--sidecar", "http://h"), "sidecar: invalid value 'http://h'"),
        (("sub", "c", "--sidecar", "ws://u:canary@h"), "sidecar: a password on the command line"),
        (("pub", "c"), "MESSAGE"),
        (("pub", "c", "m", "--timeout-seconds", "0"), "timeout-seconds: invalid value '0'"),
        (("top", "--admin-url", "ws://h"), "admin-url: invalid value 'ws://h'"),
        (("completion", "tcsh"), "'tcsh' is not one of"),
    ],
)
def test_a_wrong_call_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """With exit code 2; the error does not repeat a password."""
    refused = invoke(sidecar_main, *arguments)

    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "canary" not in refused.output


def test_commands_may_share_a_file(tmp_path: Path) -> None:
    """Options of another command are ignored; an option of no command is an error."""
    shared = 'token = "t"\nadmin_url = "http://h:1/"\npool = "p"\nzone = "z"\nresp = "h:1"\n'
    file = toml(tmp_path, shared)
    assert gather(TopConfig, {}, file).admin_url == "http://h:1/"
    assert gather(BridgeConfig, {}, file).token == "t"

    with pytest.raises(ConfigError, match="tokn: unknown option"):
        gather(TopConfig, {}, toml(tmp_path, 'tokn = "t"\n'))


CHANGED = {"database": "d", "version": 3, "primary": "h:1", "replicas": {"h:2": 1}}


@pytest.mark.parametrize(
    ("main", "path", "arguments", "found", "values"),
    [
        (
            node_main, "fanout.runtime.discovery.fleet.ask_to_drain", ("drain", "--id", "n"),
            None, {"node": "n", "gone": False},
        ),
        (
            node_main, "fanout.runtime.discovery.fleet.ask_to_drain", ("drain", "--id", "n", "--wait"),
            None, {"node": "n", "gone": True},
        ),
        (
            sidecar_main, "fanout.adjunct.topology.set_topology",
            ("replicas", "set", "d", "--primary", "h:1"), SimpleNamespace(**CHANGED), CHANGED,
        ),
    ],
)  # fmt: skip
def test_a_change_is_told_as_json(
    *,
    main: click.Command,
    path: str,
    arguments: tuple[str, ...],
    found: Any,
    values: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One object that describes the change."""

    async def fake(*_arguments: object, **_named: object) -> Any:
        return found

    monkeypatch.setattr(path, fake)
    done = invoke(main, *arguments, *BASE, "--json")

    assert (done.exit_code, json.loads(done.stdout)) == (0, values)


@pytest.mark.parametrize("name", ["secret", "node-password"])
def test_a_secret_is_no_flag(name: str) -> None:
    """The error says where to give it, and does not repeat it."""
    result = invoke(sidecar_main, f"--{name}", "canary", "--discovery", URL)

    assert result.exit_code == 2
    assert "canary" not in result.output
    assert variable(name.replace("-", "_")) in result.output


def test_secrets_come_from_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither str() nor repr() of the configuration shows them."""
    monkeypatch.setenv("FANOUT_SECRET", "canary-1")
    file = toml(tmp_path, 'node_password = "canary-2"\n')
    config = gather(SidecarConfig, {"discovery": (URL,)}, file)

    assert (config.secret, config.node_password) == ("canary-1", "canary-2")
    assert "canary" not in f"{config} {config!r}"


def test_a_node_that_others_reach_needs_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one a Redis is spawned on loopback only."""
    flags = ("--spawn", "10.0.0.1:6379", "--discovery", URL)
    refused = invoke(node_main, *flags)
    assert refused.exit_code == 2
    assert "FANOUT_SECRET" in refused.output

    monkeypatch.setenv("FANOUT_SECRET", "s")
    given = {"spawn": "10.0.0.1:6379", "discovery": (URL,)}
    assert str(gather(NodeConfig, given, None).spawn) == "10.0.0.1:6379"


@pytest.mark.parametrize("main", [sidecar_main, node_main])
def test_version(main: click.Command) -> None:
    """The version is the package's."""
    result = invoke(main, "--version")

    assert (result.exit_code, result.output) == (0, f"fanout, version {fanout.__version__}\n")


def test_help_does_not_load_the_runtime() -> None:
    """Help and errors in options do not wait for the import of the runtime."""
    code = "import sys, fanout_cli.node, fanout_cli.sidecar; print('trio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_subcommand_does_not_start_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the bare command runs the agent."""
    monkeypatch.setattr(node_main, "commands", {})
    node_main.add_command(click.Command("status", callback=lambda: click.echo("fine")))
    result = invoke(node_main, "status")

    assert (result.exit_code, result.output) == (0, "fine\n")
    assert "COMMAND" in invoke(node_main, "--help").output.splitlines()[0]


SERVICES = [
    (sidecar_main, "fanout.runtime.sidecar_service.run_sidecar", BASE),
    (sidecar_main, "fanout.runtime.local.run_local", ("--local", "2")),
    (node_main, "fanout.runtime.agent.node_service.run_node", (*BASE, "--spawn", "127.0.0.1:0")),
]


def run_fake(
    monkeypatch: pytest.MonkeyPatch,
    service: tuple[click.Command, str, tuple[str, ...]],
    outcome: int | BaseException,
) -> tuple[Result, list[Any]]:
    """Run a command whose service ends with `outcome`; return the result and the arguments."""
    main, path, arguments = service
    calls: list[Any] = []

    async def fake(config: Any, **_: object) -> int:
        calls.append(config)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(path, fake)
    monkeypatch.setattr(
        "fanout.runtime.process.logs.configure_logging", lambda *settings: calls.append(settings)
    )
    return invoke(main, *arguments), calls


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service[1])
@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_bare_command_runs_its_service(
    service: tuple[click.Command, str, tuple[str, ...]], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logging is set up first; the exit code is what the service returned."""
    result, calls = run_fake(monkeypatch, service, code)

    assert result.exit_code == code
    assert calls[0] == ("info", "auto")
    assert type(calls[1]) is (NodeConfig if service[0] is node_main else SidecarConfig)


@pytest.mark.parametrize(
    ("outcome", "code", "stderr"),
    [
        (RegistryUnavailable("no\ndiscovery"), 1, "Error: no discovery\n"),
        (RegistryUnavailable("\x1b[2J"), 1, "Error: \\x1b[2J\n"),
        (OutputFailed("full"), 1, "Error: full\n"),
        (ExceptionGroup("", [OutputFailed("left", closed=True)]), 141, ""),
        (ConfigError("no port"), 2, "Error: no port\n"),
        (ExceptionGroup("", [ExceptionGroup("", [FanoutError("a")])]), 1, "Error: a\n"),
        (
            ExceptionGroup("", [FanoutError("a"), ConfigError("b")]),
            2,
            "Error: a\nError: b\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt(), FanoutError("a")]), 1, "Error: a\n"),
    ],
)
def test_expected_ends_give_a_line_and_no_traceback(
    outcome: BaseException, code: int, stderr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of fanout, also in exception groups, and Ctrl-C."""
    result, _ = run_fake(monkeypatch, SERVICES[0], outcome)

    assert (result.exit_code, result.stderr, result.stdout) == (code, stderr, "")


@pytest.mark.parametrize(
    "outcome", [ValueError("bug"), ExceptionGroup("", [FanoutError("a"), ValueError("bug")])]
)
def test_a_bug_keeps_its_traceback(outcome: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is not turned into a message."""
    result, _ = run_fake(monkeypatch, SERVICES[0], outcome)

    assert result.exception is outcome


def lose(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of a library of the gateway fail until the test ends."""
    for name in ("gateway", "dns"):
        monkeypatch.delitem(sys.modules, f"fanout.adjunct.{name}", raising=False)
        monkeypatch.delattr(fanout.adjunct, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("dns", ("dns", *BASE, "--pool", "web", "--zone", "example.org", "--server", "h")),
        ("itsdangerous", ("dns", *BASE, "--pool", "web", "--zone", "example.org", "--server", "h")),
        ("itsdangerous", ("gateway", "status", *BASE)),
        ("itsdangerous", (*BASE, "--gateway-serve", "yes")),
        ("itsdangerous", (*BASE, "--gateway-pool", "web", "--gateway-address", "h:1")),
    ],
)
def test_the_gateway_without_its_libraries_says_how_to_get_them(
    library: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are installed with an extra."""
    lose(library, monkeypatch)
    monkeypatch.setenv("FANOUT_DNS_KEY", "k:c2VjcmV0")
    done = invoke(sidecar_main, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "pip install 'fanout[gateway]'" in done.stderr


def test_a_sidecar_without_a_gateway_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the options of the gateway require the extra."""
    lose("itsdangerous", monkeypatch)
    result, _ = run_fake(monkeypatch, SERVICES[0], 0)

    assert result.exit_code == 0


def test_digest_reads_the_secret_from_standard_input() -> None:
    """Not from the command line, where others could read it."""
    done = CliRunner().invoke(sidecar_main, ["digest"], input="s3cret\n")
    assert done.output == f"sha256:{hashlib.sha256(b's3cret').hexdigest()}\n"

    empty = CliRunner().invoke(sidecar_main, ["digest"], input="")
    assert empty.exit_code == 2
    assert CliRunner().invoke(sidecar_main, ["digest", "s3cret"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("set", "shop"), "--primary"),
        (("set", "../shop", "--primary", "h:1"), "expected 1 to 64 letters"),
        (("show", ""), "expected 1 to 64 letters"),
        (("set", "shop", "--primary", "h"), "HOST:PORT"),
        (("set", "shop", "--primary", "mysql://u:canary@h:1/shop"), "HOST:PORT"),
        (("set", "shop", "--primary", "h:1", "--replica", "u:canary@h:1"), "HOST:PORT"),
        (("set", "shop", "--primary", "h:1", "--replica", "h:2=x"), "integer from 0 to 1000"),
        (("set", "shop", "--primary", "h:1", "--replica", "h:2", "--replica", "h:2=3"), "twice"),
        (("set", "shop", "--primary", ""), "HOST:PORT"),
    ],
)
def test_what_is_wrong_with_a_topology_is_told(arguments: tuple[str, ...], why: str) -> None:
    """Before discovery is read; the error does not repeat a password."""
    done = invoke(sidecar_main, "replicas", *arguments, *BASE)
    assert done.exit_code == 2
    assert why in done.output
    assert "canary" not in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "x"), 1, "no discovery Redis can be read (127.0.0.1:1); is it up?"),
        (
            ("set", "x", "--primary", "h:1"),
            1,
            "no discovery Redis can be read (127.0.0.1:1); is it up?",
        ),
        (
            ("set", "x", "--primary", "h:1", "--replica", "h:1"),
            2,
            "h:1 is given twice; give the primary and each replica once",
        ),
    ],
)
def test_a_topology_that_cannot_be_shown_or_changed(
    arguments: tuple[str, ...], code: int, said: str
) -> None:
    """One line gives the reason, without a traceback. In a process, since it configures logging."""
    sidecar = str(Path(sys.executable).with_name("fanout-sidecar"))
    done = subprocess.run(
        [sidecar, "replicas", *arguments, *BASE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"Error: {said}\n"
