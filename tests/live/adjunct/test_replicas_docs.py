"""docs/replicas.md: its example runs as pasted, and its tables are complete."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import attrs
import pytest

from fanout.adjunct.replicas import RoutingConfig
from fanout.runtime.redis.redis_server import free_port

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "replicas.md").read_text()
PORTS = ("33070", "33071", "33072", "33073")


def example() -> str:
    """Return the block behind the marker, with free ports."""
    found = re.search(r"<!-- example -->\n```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    text = found[1].replace("--port=3307$n", "--port=$(eval echo \\$PORT$n)")
    for port in PORTS:
        free = str(free_port("127.0.0.1"))
        text = f"PORT{port[-1]}={free}\n" + text.replace(port, free)
    return text


def test_the_example_runs_as_pasted(tmp_path: Path) -> None:
    """And shows what the page says: the servers written to and read from, before and after."""
    script = example()
    ports = dict(re.findall(r"^PORT(\d)=(\d+)$", script, re.MULTILINE))
    with (tmp_path / "errors").open("w+") as errors_file:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors_file,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=90)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the session that was started for it
            process.wait()
        errors_file.seek(0)
        assert process.returncode == 0, said + errors_file.read()
    lines = [line for line in said.splitlines() if "topology_adopted" not in line]
    first, second, third = (f"127.0.0.1:{ports[n]}" for n in "123")
    version, later = int(lines[0].split()[2]), int(lines[7].split()[2])
    assert version < later
    assert lines == [
        f"shop version {version}",
        f"primary  {first}",
        *sorted(f"replica  {each} weight 1" for each in (second, third)),
        f"written to {ports['1']}",
        "found 1",
        f"read from {lines[6].split()[-1]}",
        *(2 * [f"shop version {later}", f"primary  {second}", f"replica  {third} weight 1"]),
        f"written to {ports['2']}",
        "found 2",
        f"read from {ports['3']}",
    ]
    assert lines[6].split()[-1] in (ports["2"], ports["3"])


def test_every_setting_stands_on_the_page_with_its_default() -> None:
    """In the order of the class."""
    section = PAGE.split("## Settings")[1].split("##")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
    fields = attrs.asdict(RoutingConfig())
    assert rows == [
        (name, str(value) if isinstance(value, bool) else f"{value:g}")
        for name, value in fields.items()
    ]


def test_every_code_stands_on_the_page() -> None:
    """In the order of the alphabet."""
    section = PAGE.split("## Errors")[1].split("##")[0]
    modules = ("topology", "flavours", "routing", "database", "replicas")
    sources = [(ROOT / f"src/fanout/adjunct/{name}.py").read_text() for name in modules]
    codes = set(re.findall(r'DatabaseError\(\s*"([A-Z_]+)"', "".join(sources)))
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == sorted(codes)
