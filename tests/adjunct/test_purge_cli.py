"""`fanout-sidecar purge` and `edge`: wrong options, what is missing, and what is never shown."""

import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from fanout.adjunct.purge import Answers, Kind, Outcome, Purge, Report, Target, by_key, by_url
from fanout.client import Client
from fanout.config import EdgeConfig, PurgeConfig, options
from fanout_cli.sidecar import main
from fanout_cli.sources import gather, variable
from tests.support.adjunct.sidecar import FakeClient
from tests.support.commands import invoke

VARNISH = ("--cache", "varnish", "--cache-url", "http://127.0.0.1:1")
API = ("--cache", "http", "--all-request", "POST https://api.example/all")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests plays a part."""
    for name in {"config", *options(EdgeConfig), *options(PurgeConfig)}:
        monkeypatch.delenv(variable(name), raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("edge",), "cache: missing; give --cache varnish, nginx or http"),
        (
            ("edge", "--cache", "squid"),
            "cache: invalid value 'squid': expected one of varnish, nginx, http",
        ),
        (("edge", "--cache", "varnish"), "cache-url: missing; --cache varnish requires it"),
        (("edge", "--cache", "http"), "all-request: missing; --cache http requires it"),
        (("edge", *API, "--cache-url", "http://h"), "cache-url: not supported by --cache http"),
        (
            ("edge", *VARNISH, "--all-request", "POST http://h"),
            "all-request: not supported by --cache varnish",
        ),
        (("edge", "--cache-url", "h:80"), "cache-url: invalid value 'h:80': expected http://"),
        (("edge", "--cache-url", "http://h:99999"), "cache-url: invalid value 'http://h:99999'"),
        (("edge", "--sidecar", "http://h"), "sidecar: invalid value 'http://h': expected ws://"),
        (
            ("edge", "--url-request", "POST https://a"),
            "expected METHOD URL or METHOD URL BODY with {u",
        ),
        (("edge", "--key-request", "POST https://a/{url}"), "with {key} or {key_quoted}"),
        (("edge", "--url-request", "PURGE {url}"), "url-request: invalid value 'PURGE {url}'"),
        (("edge", "--url-request", "PURGE http://{url}/"), "expected METHOD URL"),
        (
            ("edge", "--all-request", "post https://a"),
            "all-request: invalid value 'post https://a'",
        ),
        (("edge", "--settle-seconds", "-1"), "settle-seconds: invalid value '-1'"),
        (("edge", *VARNISH, "--tls-ca", "/nowhere"), "tls-ca: cannot be read: No such file"),
        (("purge", "key"), "key: 0 names, expected 1 to 64 names"),
        (("purge", "key", "a b"), "key: invalid value 'a b': expected 1 to 256 letters"),
        (("purge", "url", "/a"), "url: invalid value '/a': expected http://HOST/PATH"),
        (("purge", "all", "x"), "all: 1 names, expected no name"),
        (("purge", "key", "a", "--expect", "e"), "expect: requires --wait"),
        (
            ("purge", "key", "a", "--wait", "1", "--expect", "b c"),
            "'--expect': 'b c': expected 1 to 64",
        ),
        (("purge", "tag", "a"), "'tag' is not one of"),
        (("purge", "key", "a", "--wait", "0"), "0.0 is not in the range x>0"),
        (("purge", "key", "a", "--sidecar", "h"), "sidecar: invalid value 'h': expected ws://"),
        (("purge", "key", "a", "--pool", "a b"), "pool: invalid value 'a b'"),
    ],
)
def test_wrong_options_end_with_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    """And say which, and what is allowed."""
    result = invoke(main, *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("wait", [(), ("--wait", "60")])
def test_a_sidecar_that_is_away_is_said(wait: tuple[str, ...]) -> None:
    """Soon, and by its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:  # bound, but it never answers
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}/"
        result = invoke(main, "purge", "all", "--sidecar", url, "--timeout-seconds", "0.2", *wait)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: no_sidecar: {url} cannot be reached: ")
    assert result.stderr.count("\n") == 1


def test_secrets_are_no_flags_and_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers with tokens come from environment or file; a wrong one is not shown."""
    for name in ("request-headers", "token"):
        result = invoke(main, "edge", *API, f"--{name}", "X-Key: canary")
        assert result.exit_code == 2
        assert "canary" not in result.output
        assert variable(name.replace("-", "_")) in result.stderr

    monkeypatch.setenv("FANOUT_REQUEST_HEADERS", "X-Key: canary one\nAccept: text/plain")
    config = gather(EdgeConfig, {"cache": "http", "all_request": API[3], "id": "e"}, None)
    assert config.request_headers == (("X-Key", "canary one"), ("Accept", "text/plain"))
    assert "canary" not in repr(config)

    monkeypatch.setenv("FANOUT_REQUEST_HEADERS", "X-Key=canary")
    wrong = invoke(main, "edge", *API)
    assert wrong.exit_code == 2
    assert "expected NAME: VALUE" in wrong.stderr
    assert "canary" not in wrong.output

    monkeypatch.delenv("FANOUT_REQUEST_HEADERS")
    file = tmp_path / "edge.toml"
    file.write_text(f'cache = "http"\nall_request = "{API[3]}"\nrequest_headers = ["A: b"]\n')
    assert gather(EdgeConfig, {}, str(file)).request_headers == (("A", "b"),)


def test_a_password_in_the_url_of_a_page_is_not_repeated() -> None:
    """The URL of a page has none; giving one is an error."""
    result = invoke(main, "purge", "url", "https://u:canary@h/a")
    assert result.exit_code == 2
    assert "url: " in result.stderr
    assert "canary" not in result.output


def test_the_file_of_the_services_may_be_shared(tmp_path: Path) -> None:
    """Options of the services are ignored; unknown ones are an error."""
    file = tmp_path / "fanout.toml"
    file.write_text('resp = "127.0.0.1:1"\nlocal = 3\npool = "p"\n')
    assert gather(PurgeConfig, {}, str(file)).pool == "p"
    file.write_text('pol = "p"\n')
    result = invoke(main, "purge", "all", "--config", str(file))
    assert result.exit_code == 2
    assert "did you mean pool?" in result.stderr


def test_purging_loads_no_http_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the edge needs it, and it is slow to load."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    for module in ("edge", "caches"):
        monkeypatch.delitem(sys.modules, f"fanout.adjunct.{module}", raising=False)

    assert "no_sidecar" in invoke(main, "purge", "all", "--timeout-seconds", "0.01").stderr


@pytest.mark.parametrize("command", ["edge", "purge"])
def test_the_example_of_the_help_is_one(command: str) -> None:
    """It names options and arguments that are there."""
    text = invoke(main, command, "--help").output
    (example,) = re.findall(r"Example: fanout-sidecar (.+)", text)

    words = example.split()
    assert words[0] == command
    assert all(f" {word} " in text for word in words if word.startswith("--"))
    assert text.startswith(f"Usage: fanout {command} [OPTIONS]")


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table for people, values for programs; the exit code is for both."""
    purge = Purge(id="1", kind=Kind.KEY, names=("a",), origin="o")
    edges: dict[str, Report | None] = {
        "b": Report(
            id="1", edge="b", outcome=Outcome.FAILED, code="cache_refused", message="status 405"
        ),
        "a": Report(id="1", edge="a", outcome=Outcome.APPLIED),
        "c": None,
    }
    fake = FakeClient()
    calls: list[object] = []

    @asynccontextmanager
    async def open_call(_config: PurgeConfig) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(client=fake.client, reached=lambda: calls.append(fake.subscribed))

    async def send(client: Client, target: Target, **options: object) -> Answers:
        calls.append((client, target, options))
        return Answers(purge, edges)

    monkeypatch.setattr("fanout.terminal.call.open_call", open_call)
    monkeypatch.setattr("fanout.adjunct.purge.send_purge", send)
    text = invoke(
        main, "purge", "key", "a", "--wait", "3", "--expect", "c", "--pool", "p", "--id", "i"
    )
    assert text.exit_code == 1
    assert text.stdout.splitlines() == [
        "EDGE  OUTCOME  WHY",
        "a     applied",
        "b     failed   cache_refused: status 405",
        "c     silent",
        "",
        "purge 1: applied by 1 of 3 edges",
    ]
    options = {"origin": "i", "pool": "p", "wait_seconds": 3.0, "expected": ("c",)}
    assert calls == [["purge-report:p"], (fake.client, by_key("a"), options)]

    values = invoke(main, "purge", "key", "a", "--wait", "3", "--json")
    assert values.exit_code == 1
    assert json.loads(values.stdout) == {
        "id": "1",
        "kind": "key",
        "names": ["a"],
        "whole": False,
        "edges": {
            "a": {"outcome": "applied", "code": "", "message": ""},
            "b": {"outcome": "failed", "code": "cache_refused", "message": "status 405"},
            "c": {"outcome": "silent", "code": "", "message": ""},
        },
    }

    del edges["b"], edges["c"]
    assert invoke(main, "purge", "key", "a", "--wait", "3").exit_code == 0
    published = invoke(main, "purge", "key", "a")
    assert (published.exit_code, published.stdout) == (0, "purge 1 published\n")
    options = {"origin": "i", "pool": "default", "wait_seconds": 0.0, "expected": ()}
    assert invoke(main, "purge", "url", "HTTP://H", "--id", "i").exit_code == 0
    assert calls[-1] == (fake.client, by_url("http://h/"), options)
