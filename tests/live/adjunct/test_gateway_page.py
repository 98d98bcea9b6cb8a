"""The commands of docs/gateway.md, as they stand there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.runtime.redis.redis_server import free_port

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[3] / "docs" / "gateway.md"
LIMIT_SECONDS = 100
PORTS = ("7001", "9381", "9382", "5300")


def script(page: str) -> str:
    """Return the marked blocks of a page; the ports are free ones, however they are written."""
    text = "\n".join(re.findall(r"<!-- test -->\n```sh\n(.*?)```", page, flags=re.DOTALL))
    text = text.replace("938$n", "${PORT[$n]}")
    ports = {port: str(free_port("127.0.0.1")) for port in PORTS}
    head = f"set -m\nPORT=(0 {ports['9381']} {ports['9382']})\n"
    return head + re.sub("|".join(PORTS), lambda found: ports[found[0]], text)


def test_the_page_runs_as_pasted(tmp_path: Path) -> None:
    """To its end, where nothing is left; and it shows what it says."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    for tool in ("redis-server", "curl", "knotd", "kdig"):
        if shutil.which(tool, path=path) is None:
            pytest.skip(f"needs {tool}")
    process = subprocess.Popen(
        ("bash", "-c", script(PAGE.read_text())),
        cwd=tmp_path,
        env={"PATH": path, "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        end(process.pid)

    lines = said.splitlines()
    assert [line for line in lines if '"pool":"web"' in line and '"token":"web-' in line][2:]
    assert any(line.startswith("location: http://127.0.0.") for line in lines)
    assert "the same again: True" in lines
    both, one = [i for i, line in enumerate(lines) if line == "127.0.0.2"]
    assert lines[both - 1] == "127.0.0.1"
    assert lines[one - 1] != "127.0.0.1"
    assert [line.split()[1:3] for line in lines if line.startswith("web ")][-2:] in (
        [["web-1", "draining"], ["web-2", "active"]],
        [["web-2", "active"]] * 2,
    )
    assert process.returncode == 0


def end(session: int) -> None:
    """End what a session of ours has left, by the ids of its processes."""
    listed = subprocess.run(
        ("pgrep", "-s", str(session)), capture_output=True, text=True, check=False
    )
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
