"""The source files that the tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("cli/**/*.py")])
