"""Log lines are events with a name that the docs explain, safe to show, and reach Sentry if asked."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from fanout.config import NodeConfig, SidecarConfig, secrets_of
from fanout.errors import ConfigError
from fanout.runtime.process.logs import configure_logging
from fanout.runtime.process.sentry import start_sentry

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/ops/logs.md"
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("cli/**/*.py")])
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error"} | {
    "exception": "error",
    "complain": "warning",  # Consumer's own
}
FORWARDED = {
    ("logs.py", "event"),
    ("clients.py", "event"),
    ("local_client.py", "event"),
    ("member_log.py", "event"),
}
"""Where a name is a parameter: the caller gives the literal."""


def told(source: str, file: str) -> Iterator[tuple[str, str]]:
    """Yield name and level of each event that a source logs."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        receiver = ast.unparse(node.func.value)
        is_log = node.func.attr in LEVELS and (
            re.search(r"(^|[._])(log|bound)$", receiver) or node.func.attr == "complain"
        )
        if is_log:
            yield from ((name, LEVELS[node.func.attr]) for name in names(node.args[0], file))


def names(argument: ast.expr, file: str) -> list[str]:
    """Return the literals that an event's name may be."""
    if isinstance(argument, ast.IfExp):
        return [*names(argument.body, file), *names(argument.orelse, file)]
    if isinstance(argument, ast.Name) and (file, argument.id) in FORWARDED:
        return []
    assert isinstance(argument, ast.Constant), f"{file}: {ast.unparse(argument)} is no literal"
    return [str(argument.value)]


def test_the_docs_explain_every_event() -> None:
    """Each once, with its levels; and none that is no more."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for name, level in told(path.read_text(), path.name):
            found.setdefault(name, set()).add(level)
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| \S.*\. \|$", DOCS.read_text(), re.MULTILINE)

    assert len(found) > 30
    assert rows == sorted(rows)
    assert {name: set(levels.split(", ")) for name, levels in rows} == found


@pytest.mark.parametrize(
    "source",
    [
        "log.info('x')",
        "self._hub.flood_log.warning('x', code='c')",
        "bound.error('x')",
        "consumer.complain('x', 'c', 'r')",
        "log.warning('x' if y else 'z')",
    ],
)
def test_every_way_to_log_is_seen(source: str) -> None:
    """Else an event could be left out of the docs."""
    assert next(name for name, _ in told(source, "f.py")) == "x"


def test_a_line_is_an_object_with_who_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON where no person reads along, with the bound ids and the time in UTC."""
    configure_logging("info", "auto")
    with structlog.contextvars.bound_contextvars(cluster="c", sidecar="s"):
        structlog.get_logger().info("sidecar_ready", nodes=3)
        structlog.get_logger().debug("not_this")

    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", event.pop("timestamp"))
    assert event == {
        "event": "sidecar_ready", "level": "info", "cluster": "c", "sidecar": "s", "nodes": 3,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_others_say_stays_in_its_place(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No line of its own, no command to the terminal, and not for ever."""
    configure_logging("info", form)
    reason = "ERR\r\nINFO forged\x1b[2J\x00\u202e" + "x" * 5000
    structlog.get_logger().warning("redis_lost", reason=reason)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "forged" in line
    assert 1000 < line.count("x") < 1100


class FakeTransport(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Take what is sent."""
        event = envelope.get_event()
        assert event is not None
        self.events.append(dict(event))


@pytest.fixture
def sentry() -> Iterator[FakeTransport]:
    """Reports of a node whose settings hold canaries."""
    config = NodeConfig.from_mapping(
        {
            "id": "n", "discovery": ["redis://u:canary-1@h:1,redis://u:canary-2@h:2"],
            "redis": "redis://:canary-3@h:3", "secret": "canary-4", "node_password": "canary-5",
        }
    )  # fmt: skip
    transport = FakeTransport()
    dsn = "https://key@sentry.test/1"
    report = start_sentry(dsn, secrets_of(config), release="1", transport=transport)
    configure_logging("info", "json", report)
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


SAID = "canary-1 canary-2 canary-3 canary-4 canary-5 redis://u:other@h " + "0f" * 32


def test_errors_reach_sentry_without_secrets(sentry: FakeTransport) -> None:
    """Tagged with its cluster and node; warnings are not sent."""
    with structlog.contextvars.bound_contextvars(cluster="c", node="n"):
        structlog.get_logger().warning("redis_lost", reason=SAID)
        structlog.get_logger().error("redis_died", redis=SAID)

    (event,) = sentry.events
    assert (event["message"], event["level"], event["release"]) == ("redis_died", "error", "1")
    assert event["tags"] == {"cluster": "c", "node": "n"}
    assert event["contexts"]["structlog"]["redis"] == "*** *** *** *** *** redis://***h ***"
    assert "breadcrumbs" not in event or not event["breadcrumbs"]["values"]
    assert "canary" not in str(sentry.events)


def test_a_crash_reaches_sentry_without_secrets_and_without_variables(
    sentry: FakeTransport,
) -> None:
    """As Python reports an uncaught exception."""
    local = SAID  # in the frame that crashes
    try:
        raise RuntimeError(local)
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)

    (event,) = sentry.events
    (found,) = event["exception"]["values"]
    assert found["type"] == "RuntimeError"
    assert found["value"].startswith("*** ***")
    assert all("vars" not in frame for frame in found["stacktrace"]["frames"])
    assert "canary-1 canary-2 canary-3" not in json.dumps(event, default=str)
    assert "sys.argv" not in str(event)


def test_a_wrong_dsn_is_not_repeated() -> None:
    """It holds a key."""
    with pytest.raises(ConfigError, match="SENTRY_DSN") as caught:
        start_sentry("https://canary@", (), release="1")

    assert "canary" not in str(caught.value)


def test_every_secret_of_a_configuration_is_known() -> None:
    """In any part of the configuration; and nothing else counts as a secret."""
    config = SidecarConfig.from_mapping(
        {
            "id": "s", "discovery": "redis://:one@h:1,redis://u:two@h:2 redis://:three@h:3",
            "secret": "four", "node_password": "five", "gateway_secret": "six",
        }
    )  # fmt: skip

    assert secrets_of(config) == {"one", "two", "three", "four", "five", "six"}
