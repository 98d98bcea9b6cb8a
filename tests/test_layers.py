"""The house rules a machine can check: who imports whom, and how long things are."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("cli/**/*.py")])
LINES_MAX = 300
FUNCTION_LINES_MAX = 70

# package or module of ours -> (what of ours it may import, which libraries)
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "fanout": (set(), set()),
    "fanout.errors": (set(), {"attrs"}),
    "fanout.values": ({"fanout.errors"}, {"attrs"}),
    "fanout.config": ({"fanout.errors", "fanout.values"}, {"attrs", "redis"}),
    "fanout.core": ({"fanout.errors", "fanout.values", "fanout.core"}, {"attrs"}),
    "fanout.wire": (
        {"fanout.errors", "fanout.values", "fanout.wire"},
        {"attrs", "hiredis", "wsproto"},
    ),
    "fanout.runtime": (
        {
            "fanout.errors",
            "fanout.values",
            "fanout.config",
            "fanout.core",
            "fanout.wire",
            "fanout.runtime",
        },
        {"attrs", "hypercorn", "starlette", "structlog", "trio"},
    ),
    "fanout_cli": (
        {"fanout", "fanout.errors", "fanout.config", "fanout.runtime", "fanout_cli"},
        {"click", "trio"},
    ),
}
IMPURE = {"time", "datetime", "asyncio", "socket", "threading", "os", "subprocess"}


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts[1:])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(name: str) -> str:
    """Return the row of the table that a module belongs to."""
    return next(
        ".".join(name.split(".")[:length])
        for length in range(name.count(".") + 1, 0, -1)
        if ".".join(name.split(".")[:length]) in ALLOWED
    )


def imports(path: Path) -> Iterator[str]:
    """Yield every module a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in ("fanout", "fanout.wire", "fanout.core", "fanout.runtime"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    """No layer knows of one above it, and only the runtime waits."""
    name = module_name(path)
    ours, libraries = ALLOWED[layer(name)]
    for imported in imports(path):
        top = imported.split(".")[0]
        if top in ("fanout", "fanout_cli"):
            assert layer(imported) in ours, f"{name} imports {imported}"
        elif top in sys.stdlib_module_names:
            pure = layer(name) in ("fanout.core", "fanout.wire", "fanout.values")
            assert not (pure and top in IMPURE), f"{name} imports {imported}"
        else:
            assert top in libraries, f"{name} imports {imported}"


def test_no_cycles() -> None:
    """Modules can be put in an order in which each needs only those before it."""
    known = {module_name(path): path for path in SOURCES}
    graph = {
        name: {other for other in imports(path) if other in known and other != name}
        for name, path in known.items()
    }
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, f"a cycle among {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_files_and_functions_are_short(path: Path) -> None:
    """What is longer says why in its docstring."""
    tree = ast.parse(path.read_text())
    if len(path.read_text().splitlines()) > LINES_MAX:
        assert "Long because" in (ast.get_docstring(tree) or ""), path
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            if node.end_lineno - node.lineno > FUNCTION_LINES_MAX:
                assert "Long because" in (ast.get_docstring(node) or ""), node.name
