"""What the wheel installs, and what stands at the top of the repository."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_installs_two_packages(tmp_path: Path) -> None:
    """The wheel holds exactly `fanout` and `fanout_cli`, typed, with both commands."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt")))
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}

    assert top == {"fanout", "fanout_cli"}
    assert "fanout/py.typed" in names
    assert b"fanout-node = fanout_cli.node:main" in scripts
    assert b"fanout-sidecar = fanout_cli.sidecar:main" in scripts


def test_top_level_of_the_repository() -> None:
    """Nothing gathers at the top."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.split("/")[0] for name in listed}

    allowed = {"src", "cli", "bench", "tests", "docs", "pyproject.toml", "README.md"}
    assert {name for name in top if not name.startswith(".")} <= allowed
