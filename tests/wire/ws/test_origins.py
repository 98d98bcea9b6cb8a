"""Pages of browsers get in only where they are listed."""

import pytest

from fanout.values.names import Endpoint
from fanout.wire.ws.origins import OriginPolicy
from fanout.wire.ws.websocket import Opened, Rejected, WebSocketServer
from tests.support.wire.rfc6455 import HANDSHAKE

CALLERS = OriginPolicy.of(
    Endpoint("127.0.0.1", 7380), ["https://App.example", "null"], ["door.example", "fe80::1"]
)


@pytest.mark.parametrize(
    ("host", "origins", "why"),
    [
        ("127.0.0.1:7380", [], ""),
        ("localhost:7380", [], ""),
        ("LOCALHOST:7380", [], ""),
        ("[::1]:7380", [], ""),
        ("door.example:443", [], ""),
        ("127.0.0.1:7380", ["https://app.example"], ""),
        ("127.0.0.1:7380", ["null"], ""),
        ("evil.example:7380", [], "Host"),  # a name made to point here
        ("127.0.0.1", [], ""),
        ("127.0.0.1:9999", [], ""),  # a forwarded port
        ("door.example", [], ""),
        ("[FE80::1]:7380", [], ""),
        ("fe80::1", [], "Host"),
        ("evil.example:127.0.0.1", [], "Host"),
        ("127.0.0.1.evil.example", [], "Host"),
        ("", [], "Host"),
        (None, [], "Host"),
        ("127.0.0.1:7380", ["http://app.example"], "Origin"),
        ("127.0.0.1:7380", ["https://app.example:8443"], "Origin"),
        ("127.0.0.1:7380", ["https://app.example.evil.example"], "Origin"),
        ("127.0.0.1:7380", [""], "Origin"),
        ("127.0.0.1:7380", ["https://app.example", "https://evil.example"], "Origin"),
    ],
)
def test_who_may_call(host: str | None, origins: list[str], why: str) -> None:
    """Scheme, host and port must fit exactly; no Origin is no browser."""
    refusal = CALLERS.refusal(host, origins)
    assert bool(refusal) is bool(why)
    assert why in refusal


@pytest.mark.parametrize(
    ("host", "origin", "opened"),
    [
        (b"localhost:7380", b"", True),
        (b"localhost:7380", b"Origin: https://app.example\r\n", True),
        (b"localhost:7380", b"Origin: https://evil.example\r\n", False),
        (b"evil.example:7380", b"", False),
    ],
)
def test_a_page_that_is_not_listed_gets_no_websocket(
    host: bytes,
    origin: bytes,
    opened: bool,  # noqa: FBT001
) -> None:
    """It gets 403 and the end of the connection; the reason does not repeat what it sent."""
    server = WebSocketServer(subprotocols=(), message_bytes_max=100, policy=CALLERS)
    request = HANDSHAKE.replace(b"Host: h\r\n", b"Host: %b\r\n%b" % (host, origin))
    (event,) = server.receive(request)

    assert isinstance(event, Opened if opened else Rejected)
    if isinstance(event, Rejected):
        answer = server.outgoing()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"evil" not in answer


@pytest.mark.parametrize(
    ("page", "origin", "allowed"),
    [
        ("http://127.0.0.1:9380/", "http://127.0.0.1:9380", True),
        ("http://127.0.0.1:9380/", "http://localhost:9380", True),
        ("http://127.0.0.1:9380/", "http://[::1]:9380", True),
        ("http://127.0.0.1:9380/", "http://door.example:9380", True),
        ("http://[fe80::2]:9380/", "http://[fe80::2]:9380", True),
        ("http://127.0.0.1:80/", "http://localhost", True),
        ("https://127.0.0.1:443/", "https://localhost", True),
        ("http://127.0.0.1:9380/", "https://app.example", True),  # listed
        ("http://127.0.0.1:9380/", "http://localhost:9381", False),
        ("http://127.0.0.1:9380/", "http://localhost", False),
        ("http://127.0.0.1:9380/", "https://localhost:9380", False),
        ("http://127.0.0.1:9380/", "http://evil.example:9380", False),
        ("http://127.0.0.1:9380/", "http://127.0.0.1:9380.evil.example", False),
        ("http://127.0.0.1:9380/", "null", False),
        ("https://127.0.0.1:443/", "http://localhost", False),
    ],
)
def test_the_page_of_the_admin_door_is_let_in(page: str, origin: str, allowed: bool) -> None:  # noqa: FBT001
    """Under each of that door's names, at its own port and scheme, and no other origin that is not listed."""
    policy = OriginPolicy.with_page(
        Endpoint("127.0.0.1", 7380), ["https://app.example"], ["door.example"], page
    )

    assert (policy.refusal("127.0.0.1:7380", [origin]) == "") is allowed
    assert policy.refusal("evil.example:7380", [origin])
