"""The drivers for nginx and for APIs, through the installed commands, against an HTTP server."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from fanout.adjunct.pages import Receive, Scope, Send
from fanout.core.access import digest
from tests.support.live.authority import Authority
from tests.support.live.cdn import outcomes, purge, serving, start_edge, wait_log
from tests.support.live.fleet import START_SECONDS, Fleet

pytestmark = pytest.mark.live

CANARY = "canary-4711"
BOTH = {"api": "applied", "nginx": "applied"}


@attrs.define
class Api:
    """Keeps what it is asked, and answers with statuses that were put in, else with 200."""

    statuses: list[tuple[int, list[tuple[bytes, bytes]]]] = attrs.field(factory=list)
    asked: list[tuple[str, str, str, str]] = attrs.field(factory=list)
    keys: set[str] = attrs.field(factory=set)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request: of nginx where it has no key."""
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + "?" * bool(scope["query_string"])
        target += scope["query_string"].decode()
        status: int = 200
        extra: list[tuple[bytes, bytes]] = []
        if "x-key" in headers:
            self.keys.add(headers["x-key"])
            if self.statuses:
                status, extra = self.statuses.pop(0)
            self.asked.append((scope["method"], "api", target, body.decode()))
        else:
            self.asked.append((scope["method"], headers["host"], target, body.decode()))
        await send({"type": "http.response.start", "status": status, "headers": extra})
        await send({"type": "http.response.body", "body": b"{}"})


def _token(user: str) -> str:
    return f"{CANARY}-{user}"


def _user(name: str, *, publish: str, subscribe: str) -> str:
    """Return a user with one right of each kind."""
    secret = digest(_token(name).encode())
    rights = f'publish = ["{publish}"]\nsubscribe = ["{subscribe}"]\n'
    return f'[users.{name}]\nsecrets = ["{secret}"]\n{rights}'


async def test_each_kind_of_purge_is_what_the_server_expects(fleet: Fleet, tmp_path: Path) -> None:
    """Paths come as visitors send them; a full or failing API is asked again, its token kept.

    The sidecar speaks TLS and asks for certificates; edges and editors have no more rights than they
    need.
    """
    authority = Authority(tmp_path, "ca")
    users = tmp_path / "users.toml"
    users.write_text(
        _user("edge", publish="purge-report:default", subscribe="purge:default")
        + _user("editor", publish="purge:default", subscribe="purge-report:default")
    )
    fleet.add_discovery()
    fleet.node("node")
    sidecar = fleet.sidecar(
        "one", "--tls-cert", str(authority.issue("door")), "--tls-client-ca", str(authority.ca),
        "--users", str(users),
    )  # fmt: skip
    api = Api()
    tls = {
        "FANOUT_TLS_CA": str(authority.ca),
        "FANOUT_TLS_CLIENT_CERT": str(authority.issue("client")),
    }
    edge_env, editor_env = ({**tls, "FANOUT_TOKEN": _token(name)} for name in ("edge", "editor"))
    async with serving(api.app) as port:
        url = f"http://127.0.0.1:{port}"
        at_once = "--settle-seconds=0"
        edges = [
            start_edge(
                fleet, "nginx", sidecar, "--cache=nginx", "--cache-url", url, at_once,
                env={**edge_env, "http_proxy": "http://127.0.0.1:1"},  # not for a cache beside us
            ),
            start_edge(
                fleet, "api", sidecar, "--cache=http", at_once,
                "--url-request", f'POST {url}/url {{"files":["{{url}}"]}}',
                "--key-request", f"PUT {url}/key/{{key}}",
                "--all-request", f"POST {url}/all",
                env={**edge_env, "FANOUT_REQUEST_HEADERS": f"X-Key: {CANARY}"},
            ),
        ]  # fmt: skip
        for edge in edges:
            await wait_log(edge, "everything_purged", because="start")

        async def asked(*arguments: str) -> Any:
            api.asked.clear()
            code, answer = await purge(
                sidecar, *arguments, "--wait", "30", "--expect", "api", "--expect", "nginx",
                env=editor_env,
            )  # fmt: skip
            return code, outcomes(answer), sorted(api.asked)

        page = "http://h.example/a%2Fb/../c?x=[1]&y"
        by_nginx = ("PURGE", "h.example", "/a%2Fb/../c?x=[1]&y", "")
        assert await asked("url", page) == (
            0,
            BOTH,
            [("POST", "api", "/url", f'{{"files":["{page}"]}}'), by_nginx],
        )
        everywhere = ("PURGE", f"127.0.0.1:{port}", "/*", "")
        assert await asked("key", "a:1") == (
            0,
            BOTH,
            [everywhere, ("PUT", "api", "/key/a%3A1", "")],
        )
        assert await asked("all") == (0, BOTH, [("POST", "api", "/all", ""), everywhere])

        api.statuses = [(429, [(b"retry-after", b"1")]), (503, [])]
        again = ("PUT", "api", "/key/b", "")
        assert await asked("key", "b") == (0, BOTH, [everywhere, again, again, again])

        api.statuses = [(403, [])]
        code, told, requests = await asked("key", "c")
        assert (code, told) == (1, {**BOTH, "api": "failed"})
        assert requests == [everywhere, ("PUT", "api", "/key/c", "")]
        assert api.keys == {CANARY}
        refused = start_edge(
            fleet, "refused", sidecar, "--cache=nginx", "--cache-url", url, env=editor_env
        )
        assert refused.popen.wait(START_SECONDS) == 1
        assert "Error: forbidden: " in refused.log.read_text()
    for edge in [*edges, refused]:
        assert CANARY not in edge.log.read_text()
    for edge in edges:
        assert edge.stop() == 0
