"""What the wheel installs, what stands at the top of the repository, and what CI insists on."""

import configparser
import email
import fnmatch
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {
    *("src", "cli", "bench", "tests", "docs", "examples"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The built wheel, opened. Nothing is fetched for it: the build tool is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_installs_two_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Exactly `fanout` and `fanout_cli`, beside the wheel's own description."""
    top = {name.split("/")[0] for name in wheel.namelist()}
    described = {name for name in top if name.endswith(".dist-info")}

    assert top - described == {"fanout", "fanout_cli"}
    assert len(described) == 1


def test_the_wheel_holds_every_source_file(wheel: zipfile.ZipFile) -> None:
    """What is in the checkout is what is installed, types and the live page included."""
    sources = {
        path.relative_to(ROOT / root).as_posix()
        for root in ("src", "cli")
        for path in (ROOT / root).rglob("*")
        if path.is_file() and (path.suffix in {".py", ".html"} or path.name == "py.typed")
    }
    installed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert installed == sources
    assert {"fanout/py.typed", "fanout_cli/py.typed"} <= installed


def test_the_wheel_installs_both_commands(wheel: zipfile.ZipFile) -> None:
    """`fanout-node` and `fanout-sidecar`, and no other."""
    (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())

    assert dict(parser["console_scripts"]) == {
        "fanout-node": "fanout_cli.node:main",
        "fanout-sidecar": "fanout_cli.sidecar:main",
    }


def test_the_wheel_says_who_made_it_and_under_which_licence(wheel: zipfile.ZipFile) -> None:
    """The licence is named, and its text is part of the wheel."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    described = email.message_from_bytes(wheel.read(name))
    licence = wheel.read(name.replace("METADATA", "licenses/LICENSE")).decode()

    assert described["License-Expression"] == "MIT"
    assert described["Author"] == "the fanout contributors"
    assert described["Author"] in licence
    assert licence == (ROOT / "LICENSE").read_text()


def test_nothing_gathers_at_the_top_of_the_repository() -> None:
    """Besides dotfiles and what is ignored, only what belongs there."""
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }

    assert found == TOP


def outcomes(folder: Path, *, ci: bool) -> dict[str, int]:
    """Run tests that skip, under the project's conftest, and count how they end."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_one.py").write_text(
        "import pytest\n"
        "def test_pass(): pass\n"
        "def test_skip(): pytest.skip('needs foo')\n"
        "@pytest.mark.skipif(True, reason='needs bar')\n"
        "def test_mark(): pass\n"
        "@pytest.mark.xfail\n"
        "def test_expected(): assert False\n"
    )
    (folder / "test_two.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder),
            "-c", os.devnull, "--continue-on-collection-errors", "--tb=short", str(folder),
        ],
        cwd=folder,
        env={**environment, "CI": "true"} if ci else environment,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    words = done.stdout.splitlines()[-1].replace(",", "").split()
    ends = {"passed", "skipped", "failed", "error", "errors", "xfailed"}
    counted = {
        word.removesuffix("s"): int(number)
        for number, word in itertools.pairwise(words)
        if word in ends
    }
    return {**counted, "exit": done.returncode}


def test_in_ci_a_skip_is_a_failure(tmp_path: Path) -> None:
    """Of a test, by a mark (an error), and of a whole module; an expected failure is not a skip."""
    assert outcomes(tmp_path, ci=True) == {
        "passed": 1, "failed": 1, "error": 2, "xfailed": 1, "exit": 1,
    }  # fmt: skip


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    """A machine that lacks something can still run the rest."""
    assert outcomes(tmp_path, ci=False) == {"passed": 1, "skipped": 3, "xfailed": 1, "exit": 0}


@pytest.mark.parametrize(
    ("module", "library"),
    [("fanout.adjunct.topology", "sqlalchemy"), ("fanout_cli.sidecar", "sqlalchemy")],
)
def test_an_extra_is_not_needed_by_the_rest(module: str, library: str) -> None:
    """Changing a topology takes no database, and none of a service's dependencies."""
    blocked = f"import sys; sys.modules[{library!r}] = None; import {module}"
    subprocess.run([sys.executable, "-c", blocked], check=True)
