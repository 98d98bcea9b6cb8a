"""The types of the public API: `public_api` uses every name, and mypy refuses what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import fanout.client
from fanout.adjunct import replicas
from fanout.client import Client

ROOT = Path(__file__).parents[2]
USED = Path(__file__).with_name("public_api.py").read_text()

PURGE = {
    *("by_url", "by_key", "everything", "send_purge"),
    *("Answers", "Kind", "Outcome", "Purge", "Report", "Target"),
}
PAGES = {"App", "CacheHeaders", "CachePolicy", "tag"}
"""What services use of modules that edges and commands use as well."""

WRONG = """
from sqlalchemy import Engine

from fanout.adjunct import pages, purge
from fanout.adjunct.replicas import Databases, RoutedSession, RoutingConfig
from fanout.client import Client, Message, open_client


async def wrong(client: Client, message: Message, databases: Databases) -> None:
    await client.publish("news", 7)  # arg-type
    await client.publish(b"news", b"hello")  # arg-type
    await client.subscribe(["news"])  # arg-type
    text: str = message.data  # assignment
    message.channel = "news"  # misc
    event: Message = await anext(client)  # arg-type
    client.unknown  # attr-defined
    open_client("ws://localhost/", "token")  # call-arg
    purge.by_key(7)  # arg-type
    await purge.send_purge(client, purge.everything())  # call-arg
    await purge.send_purge(client, "article-7", origin="editor")  # arg-type
    pages.CachePolicy(600)  # call-arg
    pages.CacheHeaders(client)  # arg-type
    RoutedSession(databases)  # arg-type
    RoutingConfig(lag_seconds_max="5")  # arg-type
    engine: Engine = databases["shop"].writer  # assignment
"""
"""Each line with the errors that are right for it; where there are two, one of them."""


def test_every_public_name_is_used() -> None:
    """Of the client with its methods; a new name needs a line in `public_api`."""
    methods = {name for name in vars(Client) if not name.startswith("_")}
    names = {*fanout.client.__all__, *replicas.__all__, *PURGE, *PAGES, *methods}

    assert {name for name in names if not re.search(rf"\b{name}\b", USED)} == set()


def test_wrong_uses_are_errors(tmp_path: Path) -> None:
    """An installed package carries its types: it has py.typed."""
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"),
            "--no-error-summary", "--hide-error-context", str(file),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"^.*wrong\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    expected = [
        (str(number), line.partition("  # ")[2])
        for number, line in enumerate(WRONG.splitlines(), 1)
        if "  # " in line
    ]

    assert found == expected, done.stdout + done.stderr
