"""The answers of the gateway to HTTP requests at the admin door."""

from collections import Counter
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import cast

import attrs
import httpx
import pytest
from starlette.applications import Starlette

from fanout.adjunct.gateway import Gateway
from fanout.config import SidecarConfig
from fanout.runtime.discovery.registry import Registry
from fanout.runtime.net.world import World
from fanout.runtime.sidecar.adjuncts import Sidecar
from fanout.values.records import NodeState
from tests.support.adjunct.gateway import Fleet, instance


@attrs.define
class Door:
    """The routes over what a test has discovery say."""

    client: httpx.AsyncClient
    fleet: Fleet

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Send a GET request without keeping cookies."""
        self.client.cookies.clear()
        return await self.client.get(path, headers=headers)


def door_of(fleet: Fleet, **settings: str) -> Door:
    """Return the admin door of a sidecar with settings."""
    config = SidecarConfig.from_mapping({"id": "s", "discovery": "redis://h", **settings})
    sidecar = Sidecar(
        config=config, world=World(), registry=cast("Registry", None), watch=fleet.watch
    )
    transport = httpx.ASGITransport(Starlette(routes=Gateway().routes(sidecar)))
    return Door(httpx.AsyncClient(transport=transport, base_url="http://gateway"), fleet)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A door that gives tokens."""
    door = door_of(Fleet(), gateway_secret="s3cret")
    async with door.client:
        yield door


async def test_callers_are_told_an_instance_and_a_token(door: Door) -> None:
    """Each in its turn; with the token, by query or cookie, the same again."""
    door.fleet.say(instance("a"), instance("b"))
    answers = [await door.get("/gateway/web") for _ in range(4)]
    bodies = [each.json() for each in answers]
    first = bodies[0]
    token = first["token"]

    assert Counter(each["instance"] for each in bodies) == {"a": 2, "b": 2}
    assert first == {
        "pool": "web",
        "instance": first["instance"],
        "address": f"https://{first['instance']}.example",
        "token": token,
        "returning": False,
    }
    assert {each.headers["cache-control"] for each in answers} == {"no-store"}
    for _ in range(2):
        by_query = (await door.get(f"/gateway/web?token={token}")).json()
        by_cookie = (await door.get("/gateway/web", cookie=f"fanout_gateway_web={token}")).json()
        for again in (by_query, by_cookie):
            assert (again["instance"], again["returning"]) == (first["instance"], True)


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        ("/gateway/web?redirect", "*/*", 307),
        ("/gateway/web", "text/html,application/xhtml+xml,*/*;q=0.8", 307),
        ("/gateway/web", "application/json", 200),
        ("/gateway/web", "*/*", 200),
    ],
)
async def test_browsers_are_sent_on(door: Door, path: str, accept: str, code: int) -> None:
    """With a cookie that no script and no other site's request sees."""
    door.fleet.say(instance("a"))
    answer = await door.get(path, accept=accept)
    cookie = SimpleCookie(answer.headers["set-cookie"])["fanout_gateway_web"]

    assert answer.status_code == code
    assert answer.headers.get("location") == ("https://a.example" if code == 307 else None)
    assert answer.headers["cache-control"] == "no-store"
    assert (cookie["samesite"], cookie["path"], cookie["secure"]) == ("lax", "/", "")
    assert cookie["httponly"]
    assert int(cookie["max-age"]) == 30 * 24 * 3600  # who is back next week is returning
    by_tls = (await door.get("https://gateway/gateway/web")).headers["set-cookie"]
    assert SimpleCookie(by_tls)["fanout_gateway_web"]["secure"]


async def test_an_address_that_is_no_website_is_told_not_gone_to(door: Door) -> None:
    """A browser gets it as JSON."""
    door.fleet.say(instance("a", address="192.0.2.1:5000"))
    answer = await door.get("/gateway/web?redirect", accept="text/html")

    assert (answer.status_code, answer.json()["address"]) == (200, "192.0.2.1:5000")


async def test_refusals_have_stable_codes(door: Door) -> None:
    """An unknown pool is the caller's mistake; no instance passes, and says when to ask again."""
    door.fleet.say(instance("a", NodeState.DRAINING))
    unknown = await door.get("/gateway/webb?redirect")
    nobody = await door.get("/gateway/web", accept="text/html")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "NOPOOL")
    assert (nobody.status_code, nobody.json()["code"]) == (503, "NOINSTANCE")
    assert int(nobody.headers["retry-after"]) > 0
    assert nobody.headers["cache-control"] == "no-store"
    assert "set-cookie" not in nobody.headers
    assert (await door.client.post("/gateway/web")).status_code == 405


@pytest.mark.parametrize(
    ("settings", "has_token"),
    [({}, False), ({"secret": "s"}, True), ({"gateway_secret": "s"}, True)],
)
async def test_tokens_need_a_secret(settings: dict[str, str], has_token: bool) -> None:  # noqa: FBT001
    """That of the fleet will do."""
    door = door_of(Fleet(), **settings)
    door.fleet.say(instance("a"))
    async with door.client:
        answer = await door.get("/gateway/web")

    assert (answer.json()["token"] is not None, "set-cookie" in answer.headers) == (has_token,) * 2
