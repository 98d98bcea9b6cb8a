"""The driver for nginx against a real nginx, with the module that Debian has."""

from functools import partial
from pathlib import Path

import httpx
import pytest

from fanout.runtime.redis.redis_server import free_port
from tests.support.live.cdn import (
    HOST,
    NO_TLS,
    Origin,
    open_origin,
    outcomes,
    purge,
    start_edge,
    wait_log,
)
from tests.support.live.fleet import START_SECONDS, Fleet
from tests.support.waiting import comes_up

pytestmark = pytest.mark.live

MODULE = Path("/usr/lib/nginx/modules/ngx_http_cache_purge_module.so")
ATTEMPTS = 5


def config(folder: Path, port: int, origin: Origin) -> str:
    """Return the settings of an nginx that keeps pages and purges them, all in one folder."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""
load_module {MODULE};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
    proxy_cache_path {folder}/pages keys_zone=pages:1m;
    server {{
        listen 127.0.0.1:{port};
        location = /up {{ return 204; }}
        location / {{
            proxy_pass http://127.0.0.1:{origin.port};
            proxy_set_header Host $host;
            proxy_cache pages;
            proxy_cache_key $host$request_uri;
            if ($request_method = PURGE) {{ rewrite ^ /.purge last; }}
        }}
        location = /.purge {{
            internal;
            allow 127.0.0.1;
            deny all;
            proxy_cache_purge pages $host$request_uri;
        }}
    }}
}}
"""


def answers(url: str) -> bool:
    """Return whether an HTTP server answers there."""
    with httpx.Client(verify=NO_TLS) as client:
        try:
            client.get(url)
        except httpx.TransportError:
            return False
    return True


def start_nginx(fleet: Fleet, folder: Path, origin: Origin) -> str:
    """Start nginx in front of an origin; return where it listens."""
    assert MODULE.exists(), "these tests need Debian's nginx and libnginx-mod-http-cache-purge"
    for _ in range(ATTEMPTS):
        port = free_port("127.0.0.1")
        settings = folder / "nginx.conf"
        settings.write_text(config(folder, port, origin))
        process = fleet.start("nginx", "-p", str(folder), "-c", str(settings))
        url = f"http://127.0.0.1:{port}"
        if comes_up(process.popen, partial(answers, f"{url}/up"), START_SECONDS):
            return url
    pytest.fail(f"no nginx: {process.log.read_text()}")


async def test_a_url_is_purged_and_what_the_module_cannot_do_is_told(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Only that page, with its query; a purge of everything is refused by Debian's module."""
    fleet.add_discovery()
    fleet.node("node")
    sidecar = fleet.sidecar("one")
    async with (
        open_origin() as origin,
        httpx.AsyncClient(verify=NO_TLS, timeout=START_SECONDS) as client,
    ):
        url = start_nginx(fleet, tmp_path, origin)

        async def get(path: str) -> str:
            return (await client.get(f"{url}{path}", headers={"Host": HOST})).text

        edge = start_edge(
            fleet, "nginx", sidecar, "--cache=nginx", "--cache-url", url, "--settle-seconds=0"
        )
        await wait_log(edge, "cache_failed", code="cache_refused")
        for path in ("/a?b=1", "/c"):
            assert await get(path) == "version 1"
        origin.version = 2
        for path in ("/a?b=1", "/c"):
            assert await get(path) == "version 1"

        wait = ("--wait", "30", "--expect", "nginx")
        code, answer = await purge(sidecar, "url", f"http://{HOST}/a?b=1", *wait)
        assert (code, outcomes(answer)) == (0, {"nginx": "applied"})
        assert [await get("/a?b=1"), await get("/c")] == ["version 2", "version 1"]

        code, answer = await purge(sidecar, "url", f"http://{HOST}/nobody-asked-for-it", *wait)
        assert (code, outcomes(answer)) == (0, {"nginx": "applied"})
        code, answer = await purge(sidecar, "key", "a", *wait)
        assert (code, outcomes(answer)) == (1, {"nginx": "failed"})
        assert answer["edges"]["nginx"]["code"] == "cache_refused"
    assert "ready" not in edge.said.decode()
    assert edge.stop() == 0
