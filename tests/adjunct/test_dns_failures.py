"""Failures of a name server: which are retried, which end the process, and their messages."""

import socket
from collections.abc import Callable

import dns.message
import dns.rcode
import dns.tsigkeyring
import pytest
import structlog
import trio

from fanout.adjunct.dns import DnsUnreachable
from fanout.errors import ConfigError
from tests.support.adjunct.dns import Pool, leads_to
from tests.support.adjunct.knot import SECRET, ZONE, Knot

pytestmark = pytest.mark.live

LIMIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an updater try often enough to be seen."""
    monkeypatch.setattr("fanout.adjunct.dns.LOOK_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dns_key": "fanout:d3Jvbmc="}, "the signature we sent; .* key fanout .*FANOUT_DNS_KEY"),
        ({"dns_key": f"hmac-sha512:fanout:{SECRET}"}, "know the key we used; .* key fanout may update"),
        ({"dns_key": f"nobody:{SECRET}"}, "know the key we used; .* key nobody may update"),
        ({"dns_key": f"reader:{SECRET}"}, "know the key we used; .* key reader may update"),
        ({"zone": "example.other"}, "it is the primary of example.other"),
        ({"name": f"alias.{ZONE}"}, f"alias.{ZONE} is a CNAME"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("states", [{}, {"a1": "active"}])
async def test_refusals_say_what_to_look_at(
    knot: Knot, other: dict[str, str], message: str, states: dict[str, str]
) -> None:
    """For a key, a zone or a name, also without an instance to publish; the secret is not shown."""
    pool = Pool(knot.port, **other)
    pool.say(**states)
    before = await knot.serial()
    with pytest.raises(ConfigError, match=message) as refused, trio.fail_after(LIMIT_SECONDS):
        await pool.keep()

    assert str(refused.value).startswith(f"name server 127.0.0.1:{knot.port}: ")
    assert SECRET not in str(refused.value) + repr(pool.config)
    assert await knot.serial() == before


async def test_a_server_that_is_away_is_waited_for(knot: Knot) -> None:
    """At the start and later; it is logged once, and missed changes are sent afterwards."""
    pool = Pool(knot.port, check_interval_seconds=0.05)
    pool.say(a1="active")
    knot.stop()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.keep)
            await trio.sleep(0.3)
            assert pool.said == []
            knot.start()
            await leads_to(knot, "192.0.2.1")
            knot.stop()
            pool.say(a2="active")
            await trio.sleep(0.3)
            knot.start()
            await leads_to(knot, "192.0.2.1", "192.0.2.2")
            await trio.sleep(0.3)
            nursery.cancel_scope.cancel()

    assert [each["event"] for each in logs] == ["dns_failed", "dns_recovered", "dns_updated"] * 2
    assert logs[-1]["addresses"] == ["192.0.2.1", "192.0.2.2"]
    assert "Connection refused" in logs[0]["reason"]
    assert pool.said == [f"ready name=web.{ZONE} server=127.0.0.1:{knot.port} addresses=1"]


async def test_a_refusal_later_is_told_and_waited_for(
    knot: Knot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that is being mended is no reason to end."""
    pool = Pool(knot.port, check_interval_seconds=0.05)
    pool.say(a1="active")
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.keep)
            await leads_to(knot, "192.0.2.1")
            knot.stop()
            monkeypatch.setattr("tests.support.adjunct.knot.SECRET", "d3Jvbmc=")
            knot.start()
            await trio.sleep(0.5)
            knot.stop()
            monkeypatch.undo()
            knot.start()
            pool.say(a2="active")
            await leads_to(knot, "192.0.2.1", "192.0.2.2")
            nursery.cancel_scope.cancel()

    reasons = [each["reason"] for each in logs if each["event"] == "dns_failed"]
    assert any("FANOUT_DNS_KEY" in each for each in reasons)
    assert SECRET not in repr(logs)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda _: b"\0\1x", ConfigError, "it is the primary"),
        (lambda _: b"", DnsUnreachable, "EOF"),
        (lambda query: answered(query, dns.rcode.SERVFAIL), DnsUnreachable, "SERVFAIL"),
        (lambda query: answered(query, dns.rcode.NOTIMP), ConfigError, "responds NOTIMP;"),
        (lambda query: answered(query, is_signed=False), ConfigError, "signature|TSIG"),
    ],
)
async def test_answers_that_mean_nothing_are_told_apart(
    answer: Callable[[dns.message.Message], bytes], error: type[Exception], message: str
) -> None:
    """A temporary failure is retried; one that needs a change of settings is an error."""
    keys = dns.tsigkeyring.from_text({"fanout": SECRET})

    async def serve(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        await stream.send_all(answer(dns.message.from_wire(asked[2:], keyring=keys)))
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(error, match=message):
            await Pool(port).send()
        nursery.cancel_scope.cancel()


def answered(
    query: dns.message.Message,
    code: dns.rcode.Rcode = dns.rcode.NOERROR,
    *,
    is_signed: bool = True,
) -> bytes:
    """Return an answer, as it goes over TCP."""
    answer = dns.message.make_response(query)
    answer.set_rcode(code)
    if not is_signed:
        answer.tsig = None
        answer.keyring = None
    wire = answer.to_wire()
    return len(wire).to_bytes(2) + wire


async def test_a_server_whose_name_is_not_found_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of the resolver."""

    async def fail(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("trio.socket.getaddrinfo", fail)
    with pytest.raises(DnsUnreachable, match=r"127\.0\.0\.1:53: Name or service not known"):
        await Pool(53).send()


async def test_a_server_that_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for it is bounded."""
    monkeypatch.setattr("fanout.adjunct.dns.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DnsUnreachable, match=f":{port}: .* timed out"), trio.fail_after(5):
            await Pool(port).send()


async def test_an_answer_that_anybody_could_have_made_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the library is one that does not look at that."""

    async def answer(update: dns.message.Message, *_: object) -> dns.message.Message:
        return dns.message.from_wire(answered(update, is_signed=False)[2:])

    monkeypatch.setattr("dns.asyncquery.tcp", answer)
    with pytest.raises(ConfigError, match="responds NOERROR without a signature"):
        await Pool(53).send()
