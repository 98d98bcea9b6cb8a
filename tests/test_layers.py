"""The rules of the source that a test can check: allowed imports, and lengths."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import ROOT, SOURCES

LINES_MAX = 300
ADJUNCT_LINES_MAX = 240
FUNCTION_LINES_MAX = 70
EXCUSE = "Long because"

VALUES = {
    *("fanout.errors", "fanout.values"),
    *("fanout.values.names", "fanout.values.records"),
    *("fanout.values.requests", "fanout.values.control"),
}
WIRE = {"fanout.wire", "fanout.wire.resp", "fanout.wire.ws", "fanout.wire.redis"}
BENEATH = VALUES | WIRE | {"fanout", "fanout.notice", "fanout.config", "fanout.core"}
"""What every room of the runtime may import."""

NET = {"fanout.runtime.process", "fanout.runtime.net"}
DISCOVERY = NET | {"fanout.runtime.redis", "fanout.runtime.discovery"}
SIDECAR = DISCOVERY | {"fanout.runtime.sidecar"}
ROOMS = SIDECAR | {
    *("fanout.runtime.doors", "fanout.runtime.metrics"),
    *("fanout.runtime.agent", "fanout.runtime.admin"),
}
BENEATH_ADJUNCTS = BENEATH | SIDECAR | {"fanout.runtime"}

# Package or module of ours -> (what of ours it may import, which libraries). The longest name
# that fits a module is its row, and modules of one row may import each other. What is in no column
# may be imported by no module: `fanout.testing`.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "fanout": (set(), set()),
    "fanout.errors": (set(), {"attrs"}),
    "fanout.notice": (set(), {"trio"}),
    "fanout.values": (set(), set()),
    "fanout.values.names": ({"fanout.errors"}, {"attrs"}),
    "fanout.values.records": ({"fanout.values.names"}, {"attrs"}),
    "fanout.values.requests": ({"fanout.values.names"}, {"attrs"}),
    "fanout.values.control": ({"fanout.values.names", "fanout.values.requests"}, {"attrs"}),
    "fanout.config": (VALUES | {"fanout.config"}, {"attrs", "redis"}),
    "fanout.core": (VALUES | {"fanout.core"}, {"attrs"}),
    "fanout.wire": (VALUES | {"fanout.wire"}, {"attrs"}),
    "fanout.wire.resp": (VALUES | {"fanout.wire", "fanout.wire.resp"}, {"attrs"}),
    "fanout.wire.ws": (VALUES | {"fanout.wire", "fanout.wire.ws"}, {"attrs", "wsproto"}),
    "fanout.wire.redis": (VALUES | {"fanout.wire.redis"}, {"hiredis"}),
    # The rooms of the runtime, each with the rooms beneath it.
    "fanout.runtime.process": (
        BENEATH | {"fanout.runtime.process"},
        {"attrs", "sentry_sdk", "structlog", "structlog_sentry", "trio"},
    ),
    "fanout.runtime.net": (BENEATH | NET, {"attrs", "hypercorn", "starlette", "structlog", "trio"}),
    "fanout.runtime.redis": (
        BENEATH | NET | {"fanout.runtime.redis"},
        {"attrs", "structlog", "trio"},
    ),
    "fanout.runtime.discovery": (BENEATH | DISCOVERY, {"attrs", "structlog", "trio"}),
    "fanout.runtime.sidecar": (BENEATH | SIDECAR, {"attrs", "starlette", "structlog", "trio"}),
    "fanout.runtime.doors": (
        BENEATH | NET | {"fanout.runtime.sidecar", "fanout.runtime.doors"},
        {"attrs", "structlog", "trio"},
    ),
    "fanout.runtime.metrics": (
        BENEATH | DISCOVERY | {"fanout.runtime.metrics"},
        {"attrs", "prometheus_client", "starlette", "trio"},
    ),
    "fanout.runtime.agent": (
        BENEATH | DISCOVERY | {"fanout.runtime.metrics", "fanout.runtime.agent"},
        {"attrs", "structlog", "trio"},
    ),
    "fanout.runtime.admin": (
        BENEATH | SIDECAR | {"fanout.runtime.metrics", "fanout.runtime.admin"},
        {"attrs", "starlette", "trio"},
    ),
    "fanout.runtime": (BENEATH | ROOMS | {"fanout.runtime"}, {"attrs", "structlog", "trio"}),
    "fanout.client": (
        VALUES | {"fanout.notice", "fanout.core", "fanout.wire.ws", "fanout.client"},
        {"attrs", "trio", "trio_websocket"},
    ),
    "fanout.terminal": (
        VALUES | DISCOVERY | {"fanout.config", "fanout.client", "fanout.terminal"},
        {"attrs", "httpx", "httpx_sse", "rich", "trio"},
    ),
    # Leaves: only the commands import one, not even another leaf does. What purges is one of four
    # modules: services need no more of it than `purge` and `pages`.
    "fanout.adjunct": (set(), set()),
    "fanout.adjunct.topology": (
        VALUES | WIRE | DISCOVERY | {"fanout.config"},
        {"attrs", "trio"},
    ),
    "fanout.adjunct.flavours": ({"fanout.adjunct.topology"}, {"attrs"}),
    "fanout.adjunct.routing": (
        VALUES | {"fanout.core", "fanout.adjunct.flavours", "fanout.adjunct.topology"},
        {"attrs"},
    ),
    "fanout.adjunct.database": (
        VALUES | {"fanout.adjunct.flavours", "fanout.adjunct.routing", "fanout.adjunct.topology"},
        {"sqlalchemy", "structlog"},
    ),
    "fanout.adjunct.replicas": (
        BENEATH_ADJUNCTS
        | {"fanout.adjunct.database", "fanout.adjunct.flavours", "fanout.adjunct.routing"}
        | {"fanout.adjunct.topology"},
        {"sqlalchemy", "structlog", "trio"},
    ),
    "fanout.testing": (
        VALUES | WIRE | NET | {"fanout.core", "fanout.testing"},
        {"attrs", "trio"},
    ),
    "fanout.adjunct.gateway": (
        BENEATH_ADJUNCTS,
        {"attrs", "itsdangerous", "starlette", "structlog", "trio"},
    ),
    "fanout.adjunct.dns": (
        BENEATH_ADJUNCTS | {"fanout.adjunct.gateway"},
        {"dns", "structlog", "trio"},
    ),
    "fanout.adjunct.purge": (BENEATH_ADJUNCTS | {"fanout.client"}, {"attrs", "trio"}),
    "fanout.adjunct.pages": (VALUES | {"fanout.adjunct.purge"}, {"attrs"}),
    "fanout.adjunct.caches": (BENEATH_ADJUNCTS | {"fanout.adjunct.purge"}, {"httpx", "trio"}),
    "fanout.adjunct.edge": (
        BENEATH_ADJUNCTS | {"fanout.client", "fanout.adjunct.purge", "fanout.adjunct.caches"},
        {"httpx", "trio"},
    ),
    "fanout_cli": (
        {
            *("fanout", "fanout.errors", "fanout.config", "fanout.terminal", "fanout_cli"),
            *ROOMS,
            "fanout.runtime",
            *("fanout.adjunct.dns", "fanout.adjunct.edge", "fanout.adjunct.gateway"),
            *("fanout.adjunct.purge", "fanout.adjunct.topology"),
        },
        {"attrs", "click", "trio"},
    ),
}

PURE = {
    *VALUES,
    *WIRE,
    *("fanout.config", "fanout.core"),
    *("fanout.adjunct.flavours", "fanout.adjunct.routing"),
}

IMPURE = {
    *("time", "datetime", "sched", "signal"),
    *("asyncio", "threading", "multiprocessing", "concurrent", "subprocess"),
    *("socket", "select", "selectors", "ssl", "os", "io", "pathlib", "tempfile", "shutil", "sys"),
    *("random", "secrets", "uuid", "logging", "warnings"),
}
"""What of the standard library waits, looks at the world, or differs from run to run."""

EXCEPTED = {"random.Random"}
"""The class of a generator that is passed in."""


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts[1:])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def layer(name: str) -> str:
    """Return the row of the table that a module belongs to."""
    words = name.split(".")
    lengths = range(len(words), 0, -1)
    return next(row for n in lengths if (row := ".".join(words[:n])) in ALLOWED)


def imports(source: str) -> Iterator[str]:
    """Yield everything that a source imports: modules, or names with their module in front."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_of(imported: str) -> str:
    """Return which module of ours an imported name lives in."""
    whole = imported in MODULES or imported in ALLOWED
    return imported if whole else imported.rpartition(".")[0]


def breaches(name: str, source: str) -> list[str]:
    """Return what module `name` imports against the table."""
    ours, libraries = ALLOWED[layer(name)]
    found = []
    for imported in imports(source):
        top = imported.split(".")[0]
        if top in ("fanout", "fanout_cli"):
            kept = layer(module_of(imported)) in ours
        elif top in sys.stdlib_module_names:
            kept = layer(name) not in PURE or top not in IMPURE or imported in EXCEPTED
        else:
            kept = top in libraries
        if not kept:
            found.append(imported)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    """No layer knows of one above it, and only the runtime waits."""
    assert breaches(name, MODULES[name].read_text()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("fanout.core.x", "import trio"),
        ("fanout.core.x", "import time"),
        ("fanout.core.x", "from time import monotonic"),
        ("fanout.core.x", "import random"),
        ("fanout.core.x", "from random import choice"),
        ("fanout.core.x", "import logging"),
        ("fanout.core.x", "from fanout import wire"),
        ("fanout.core.x", "from fanout.wire import resp"),
        ("fanout.core.x", "from fanout import config"),
        ("fanout.core.x", "def f():\n    import trio"),
        ("fanout.core.x", "from . import glob"),
        ("fanout.wire.x", "import fanout.core.glob"),
        ("fanout.wire.x", "import redis"),
        ("fanout.config", "import os"),
        ("fanout.config", "import click"),
        ("fanout.runtime.x", "import hiredis"),
        ("fanout.runtime.x", "import wsproto.events"),
        ("fanout.runtime.x", "import click"),
        ("fanout.runtime.x", "from fanout.testing import fakes"),
        ("fanout.runtime.x", "import fanout_cli.options"),
        ("fanout.runtime.x", "from fanout.adjunct.gateway import Pools"),
        ("fanout.values.names", "from fanout.values.records import NodeRecord"),
        ("fanout.values.records", "from fanout.values.requests import Publish"),
        ("fanout.values.requests", "from fanout.values.control import End"),
        ("fanout.wire.limits", "from fanout.wire.resp import replies"),
        ("fanout.wire.resp.x", "from fanout.wire.ws import frames"),
        ("fanout.wire.ws.x", "from fanout.wire.resp import replies"),
        ("fanout.wire.redis.x", "from fanout.wire import records"),
        ("fanout.runtime.process.x", "from fanout.runtime.net.transport import Network"),
        ("fanout.runtime.net.x", "from fanout.runtime.redis import link"),
        ("fanout.runtime.redis.x", "from fanout.runtime.discovery import watch"),
        ("fanout.runtime.discovery.x", "from fanout.runtime.sidecar import presence"),
        ("fanout.runtime.sidecar.x", "from fanout.runtime.doors import door"),
        ("fanout.runtime.doors.x", "from fanout.runtime.redis.link import Link"),
        ("fanout.runtime.doors.x", "from fanout.runtime.discovery.registry import Registry"),
        ("fanout.runtime.doors.x", "from fanout.runtime.admin import live_feed"),
        ("fanout.runtime.metrics.x", "from fanout.runtime.sidecar import traffic"),
        ("fanout.runtime.agent.x", "from fanout.runtime.sidecar import traffic"),
        ("fanout.runtime.admin.x", "from fanout.runtime.doors import door"),
        ("fanout.runtime.admin.x", "from fanout.runtime.agent import node_redis"),
        ("fanout.runtime.sidecar.x", "from fanout.runtime import sidecar_service"),
        ("fanout.runtime.sidecar_service", "from fanout.adjunct import gateway"),
        ("fanout.client.x", "import fanout.adjunct.gateway"),
        ("fanout.adjunct.gateway", "import fanout.adjunct"),
        ("fanout.adjunct.gateway", "import fanout.adjunct.dns"),
        ("fanout.adjunct.gateway", "import fanout_cli.options"),
        ("fanout.adjunct.gateway", "from fanout.testing import network"),
        ("fanout.adjunct.gateway", "import dns.update"),
        ("fanout.adjunct.x", "import fanout.adjunct.gateway"),
        ("fanout.core.x", "from fanout.adjunct.purge import Purge"),
        ("fanout.runtime.x", "from fanout.adjunct import purge"),
        ("fanout.client.x", "import fanout.adjunct.purge"),
        ("fanout.client.x", "import fanout.terminal.table"),
        ("fanout.runtime.x", "import fanout.terminal.table"),
        ("fanout.terminal.x", "import click"),
        ("fanout.adjunct.x", "from fanout.adjunct.purge import by_key"),
        ("fanout.adjunct.purge", "from fanout.adjunct.edge import Edge"),
        ("fanout.adjunct.purge", "import httpx"),
        ("fanout.adjunct.pages", "import trio"),
        ("fanout.adjunct.edge", "import fanout_cli.options"),
        ("fanout.runtime.x", "from fanout.adjunct import replicas"),
        ("fanout.runtime.x", "import sqlalchemy"),
        ("fanout.adjunct.another", "from fanout.adjunct.replicas import Databases"),
        ("fanout.adjunct.routing", "import time"),
        ("fanout.adjunct.topology", "import sqlalchemy"),
        ("fanout_cli.x", "from fanout.core.glob import compile_pattern"),
        ("fanout_cli.x", "from fanout.values import Endpoint"),
        ("fanout_cli.x", "import fanout.testing"),
    ],
)
def test_the_table_forbids(name: str, source: str) -> None:
    """The check sees every way to write an import."""
    assert breaches(name, source) != []


def test_no_cycles() -> None:
    """Modules can be put in an order in which each needs only those before it."""
    graph = {
        name: {module_of(imported) for imported in imports(path.read_text())} - {name}
        for name, path in MODULES.items()
    }
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a cycle among {sorted(graph)}"
        for name in free:
            del graph[name]


def excused(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether the docstring has a line that says why the thing is long."""
    return any(line.startswith(EXCUSE) for line in (ast.get_docstring(node) or "").splitlines())


def too_long(source: str) -> list[str]:
    """Return the functions, or `module`, that are too long and do not say why."""
    tree = ast.parse(source)
    found = [] if len(source.splitlines()) <= LINES_MAX or excused(tree) else ["module"]
    return found + [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
        and not excused(node)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_are_short(name: str) -> None:
    """What is longer says why in its docstring."""
    assert too_long(MODULES[name].read_text()) == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("fanout.adjunct.")])
def test_adjuncts_are_thin(name: str) -> None:
    """Some two hundred lines each: one that grows past that does too much by itself."""
    assert len(MODULES[name].read_text().splitlines()) <= ADJUNCT_LINES_MAX


def test_the_length_of_things_is_counted_exactly() -> None:
    """The last allowed line is allowed, the next is not, and an excuse is heard."""
    body = "    pass\n"
    excuse = '    """Do.\n\n    Long because it is a test.\n    """\n'

    assert too_long("def f():\n" + body * 69) == []
    assert too_long("async def f():\n" + body * 70) == ["f"]
    assert too_long("def f():\n" + excuse + body * 70) == []
    assert too_long("x = 1\n" * 300) == []
    assert too_long("x = 1\n" * 301) == ["module"]
    assert too_long('"""X.\n\nLong because.\n"""\n' + "x = 1\n" * 301) == []
    assert too_long('"""Not Long because."""\n' + "x = 1\n" * 301) == ["module"]


def borrowed(source: str) -> list[str]:
    """Return the test modules and conftests that a source imports from."""
    return [
        imported
        for imported in imports(source)
        if re.search(r"^tests\.(?:\w+\.)*(?:test_\w+|conftest)\b", imported)
    ]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("tests/**/*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_helpers_live_in_support(path: Path) -> None:
    """No test imports from a test module or a conftest."""
    assert borrowed(path.read_text()) == []


def test_a_borrowed_helper_is_seen() -> None:
    """However it is imported."""
    assert borrowed("from tests.live.test_x import until")
    assert borrowed("import tests.runtime.conftest")
    assert borrowed("def f():\n    from tests import test_x")
    assert not borrowed("from tests.support.live.clients import until")
