"""The public API as services use it: mypy checks each type, and nothing here is run.

`test_typing` sees that every public name is used here and that mypy refuses wrong uses.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any, assert_type

from sqlalchemy import URL, Connection, Engine

from fanout.adjunct import pages, purge, replicas
from fanout.adjunct.purge import Answers, Kind, Outcome, Purge, Report, Target
from fanout.adjunct.replicas import (
    Database,
    DatabaseError,
    Databases,
    RoutedSession,
    RoutingConfig,
)
from fanout.client import Client, Event, Gap, Message, open_client
from fanout.config import FleetConfig
from fanout.errors import RequestFailed


async def open_clients(context: ssl.SSLContext, told: Callable[[str], None]) -> None:
    """With the defaults and with every option."""
    url = "wss://sidecar.example/"
    manager: AbstractAsyncContextManager[Client] = open_client(url)
    async with manager as client:
        assert_type(client, Client)
    async with open_client(url, token="t", ssl_context=context, events_max=1, told=told) as client:
        assert_type(client, Client)


async def talk(client: Client) -> None:
    """Subscribe, publish and read what comes."""
    assert_type(client.trouble, str)
    assert_type(await client.subscribe("news", "weather"), tuple[str, ...])
    assert_type(await client.psubscribe("news:*"), tuple[str, ...])
    assert_type(await client.publish("news", b"hello"), int)
    try:
        assert_type(await client.publish("news", "hello"), int)
    except RequestFailed as error:
        assert_type(error.code, str)
    iterator: AsyncIterator[Event] = client
    assert_type(await anext(iterator), Message | Gap)
    async for event in client:
        assert_type(event, Message | Gap)
        match event:
            case Message(channel, data, pattern):
                assert_type((channel, data, pattern), tuple[str, bytes, str | None])
            case Gap(node, reason):
                assert_type((node, reason), tuple[str, str])
    assert_type(await client.run(), None)


def targets() -> tuple[Target, ...]:
    """Name what to purge."""
    target = purge.by_url("https://shop.example/", "https://shop.example/news")
    assert_type(target, Target)
    assert_type(target.kind, Kind)
    assert_type(target.names, tuple[str, ...])
    assert_type(purge.by_key("article-7"), Target)
    assert_type(purge.everything(), Target)
    return (target,)


async def purge_pages(client: Client, target: Target) -> None:
    """Send a purge and read the reports."""
    assert_type(await purge.send_purge(client, target, origin="editor"), Answers)
    answers = await purge.send_purge(
        client, target, origin="editor", pool="eu", wait_seconds=10, expected=["edge-1"]
    )
    assert_type((answers.whole, answers.pending), tuple[bool, bool])
    assert_type(answers.purge, Purge)
    assert_type((answers.purge.id, answers.purge.origin), tuple[str, str])
    assert_type(answers.edges, dict[str, Report | None])
    for report in answers.edges.values():
        if report is not None:
            assert_type(report.outcome, Outcome)
            assert_type((report.id, report.edge), tuple[str, str])
            assert_type((report.code, report.message), tuple[str, str])


def cached(app: pages.App, scope: MutableMapping[str, Any]) -> pages.App:
    """Wrap an application; what comes out is an application again."""
    assert_type(pages.tag(scope, "article-7", "home"), None)
    policy = pages.CachePolicy(
        shared_seconds=600, browser_seconds=0, stale_while_revalidate_seconds=30
    )
    assert_type(pages.CacheHeaders(app), pages.CacheHeaders)
    return pages.CacheHeaders(app, policy)


def databases(fleet: FleetConfig, urls: Mapping[str, str | URL]) -> None:
    """Follow the databases of a service."""
    config = RoutingConfig(
        lag_seconds_max=5, measure_interval_seconds=1.0, switch_wait_seconds=10.0
    )
    opened = Databases(fleet, urls, config=config, engine_options={"pool_size": 5})
    assert_type(opened.open(), Databases)
    assert_type(opened.close(), None)
    with Databases(fleet, {"shop": "postgresql+psycopg://shop@/shop"}) as known:
        assert_type(known, Databases)
        try:
            assert_type(known["shop"], Database)
        except DatabaseError as error:
            assert_type(error.code, str)


def sessions(database: Database, connection: Connection) -> None:
    """Write to the primary, read from replicas."""
    assert_type(database.name, str)
    assert_type(database.writer(), Engine)
    assert_type(database.reader(), Engine)
    assert_type(database.reader(database.own_writes(connection)), Engine)
    assert_type(database.readable(), set[str])
    with RoutedSession(database) as session:
        assert_type(session, RoutedSession)
        assert_type(session.position, str)
    with RoutedSession(
        database, after=session.position, read_only=True, expire_on_commit=False
    ) as session:
        assert_type(session, replicas.RoutedSession)
